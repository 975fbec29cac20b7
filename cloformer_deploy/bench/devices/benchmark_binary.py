"""Finds TFLite's benchmark_model for a device: given, named by the environment, or downloaded on request."""

import hashlib
import os
import struct
import urllib.request
from pathlib import Path

from cloformer_deploy.bench.devices.base import Options
from cloformer_deploy.errors import CloformerDeployError, MissingPartError, RequestError, ToolError
from cloformer_deploy.system.files import replaced
from cloformer_deploy.validation.cache import default_folder

VARIABLE = "CLOFORMER_DEPLOY_BENCHMARK_MODEL"
NIGHTLY = (
    "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest/"
    "android_aarch64_benchmark_model"
)
MACHINES = {40: "arm", 62: "x86_64", 183: "aarch64"}
"""Names that `uname -m` gives for values of e_machine in ELF headers (System V ABI)."""


def machine_of(binary: Path) -> str:
    """Return the processor that an ELF program is for, as `uname -m` names it.

    Raises:
        RequestError: the file is not an ELF program, or cannot be read.
    """
    try:
        with binary.open("rb") as file:
            header = file.read(20)
    except OSError as error:
        raise RequestError(
            f"{binary} cannot be read: {error.strerror}", "give another with --benchmark-binary"
        ) from error
    if len(header) < 20 or header[:4] != b"\x7fELF":
        raise RequestError(
            f"{binary} is not a program for Linux or Android", "give a benchmark_model with --benchmark-binary"
        )
    machine = struct.unpack("<H" if header[5] == 1 else ">H", header[18:20])[0]
    return MACHINES.get(machine, f"machine {machine}")


def find_binary(options: Options, lack: CloformerDeployError) -> Path:
    """Return the tool: the given one, the one that the environment names, or a downloaded one.

    Args:
        options: the given one, and whether downloading is allowed.
        lack: why the runner cannot be used instead, for the error.

    Raises:
        MissingPartError: there is none, or the downloaded one was changed since.
    """
    given = options.benchmark_binary or (Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None)
    if given is not None:
        return given
    folder = default_folder()
    hint = f"give Google's benchmark_model with --benchmark-binary FILE or {VARIABLE}, or allow --download"
    if folder is None:
        raise MissingPartError(f"{lack.message}; and there is no home folder to keep benchmark_model in", hint)
    kept = folder / "android_aarch64_benchmark_model"
    checksum = kept.with_suffix(".sha256")
    if options.download and not kept.exists():
        download(NIGHTLY, kept, checksum)
    if not kept.exists():
        raise MissingPartError(f"{lack.message}; and benchmark_model is not there either", hint)
    if not checksum.exists() or checksum.read_text().strip() != hashlib.sha256(kept.read_bytes()).hexdigest():
        raise MissingPartError(f"{kept} is not what was downloaded", "delete it, and give --download again")
    return kept


def download(address: str, path: Path, checksum: Path) -> None:
    """Download the tool, and keep its checksum, so that it is used only as it was downloaded.

    Args:
        address: URL.
        path: of the tool.
        checksum: of the file with its SHA-256.

    Raises:
        ToolError: it cannot be downloaded.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310 - a constant address
            content = answer.read()
    except OSError as error:
        raise ToolError(
            f"{address} cannot be downloaded: {error}", "download it by hand, and give it with --benchmark-binary"
        ) from error
    with replaced(checksum) as staged:
        staged.write_text(hashlib.sha256(content).hexdigest() + "\n")
    with replaced(path) as staged:
        staged.write_bytes(content)
