"""Finding TFLite's benchmark_model for a device: given, named by the environment, or downloaded on request."""

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
"""ELF's e_machine (System V ABI), as `uname -m` has it."""


def machine_of(binary: Path) -> str:
    """The processor that an ELF program is for.

    Raises:
        RequestError: it is no ELF program.
    """
    try:
        with binary.open("rb") as file:
            header = file.read(20)
    except OSError as error:
        raise RequestError(
            f"{binary} cannot be read: {error.strerror}", "give another with --benchmark-binary"
        ) from error
    if len(header) < 20 or header[:4] != b"\x7fELF":
        raise RequestError(f"{binary} is no program for Linux or Android", "give a benchmark_model")
    machine = struct.unpack("<H" if header[5] == 1 else ">H", header[18:20])[0]
    return MACHINES.get(machine, f"machine {machine}")


def find_binary(options: Options, lack: CloformerDeployError) -> Path:
    """The tool: the one given, the one the environment names, or the one that was downloaded before, or is now.

    Raises:
        MissingPartError: there is none; it says what to get.
    """
    given = options.benchmark_binary or (Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None)
    if given is not None:
        return given
    kept = default_folder() / "android_aarch64_benchmark_model"
    checksum = kept.with_suffix(".sha256")
    if options.download and not kept.exists():
        download(NIGHTLY, kept, checksum)
    if not kept.exists():
        hint = f"give Google's benchmark_model with --benchmark-binary FILE or {VARIABLE}, or allow --download"
        raise MissingPartError(f"{lack.message}; and there is no benchmark_model", hint)
    if not checksum.exists() or checksum.read_text().strip() != hashlib.sha256(kept.read_bytes()).hexdigest():
        raise MissingPartError(f"{kept} is not what was downloaded", "delete it, and give --download again")
    return kept


def download(address: str, path: Path, checksum: Path) -> None:
    """Fetch the tool, and note its checksum: it is only ever used as it came.

    Raises:
        ToolError: it cannot be fetched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310 - not from outside
            content = answer.read()
    except OSError as error:
        raise ToolError(
            f"{address} cannot be fetched: {error}", "get it by hand, and give --benchmark-binary"
        ) from error
    with replaced(checksum) as staged:
        staged.write_text(hashlib.sha256(content).hexdigest() + "\n")
    with replaced(path) as staged:
        staged.write_bytes(content)
