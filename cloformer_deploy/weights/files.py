"""Reading and writing of weights files: PyTorch's zip and legacy formats, and safetensors.

No code of a file is executed: PyTorch files are read with torch's restricted unpickler only. This module checks the
container; `weights.checkpoints` checks the content.
"""

import io
import json
import pickle
import re
import zipfile
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks.base import Configuration
from cloformer_deploy.system.text import clipped

MAX_FILE_BYTES = 2**30
"""Size of the largest file that is read, because files are read into memory as a whole.

A training checkpoint of the largest variant has a quarter of this size.
"""

COPY_AGAIN = "copy or download the file again, and compare its checksum with that of the source"
SAVE_AGAIN = 'where the weights were trained, save them again with torch.save(model.state_dict(), "weights.pth")'
GIVE_WEIGHTS = "pass a PyTorch (.pth, .pt) or safetensors file of CloFormer weights"


def read(path: Path) -> bytes:
    """Return all bytes of a weights file.

    Raises:
        CheckpointError: the file does not exist, or is empty, larger than `MAX_FILE_BYTES` or not readable.
    """
    if not path.exists():
        raise CheckpointError("there is no such file", GIVE_WEIGHTS)
    if not path.is_file():
        what = "a directory" if path.is_dir() else "not a regular file"
        raise CheckpointError(f"this is {what}, not a weights file", GIVE_WEIGHTS)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise CheckpointError(f"the file has {size} bytes, more than the limit of {MAX_FILE_BYTES}", SAVE_AGAIN)
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"the file cannot be read ({error.strerror})", "check its permissions") from error
    if not data:
        raise CheckpointError("the file is empty", COPY_AGAIN)
    return data


@dataclass(frozen=True)
class Parsed:
    """A parsed weights file.

    Attributes:
        content: the unpickled object, or the tensors by name; not checked.
        labels: names of the classes, where the metadata has them.
        task: name of the task, where the metadata has it; not checked.
        configuration: of the network, or the name of a published one, where the metadata has it; not checked.
    """

    content: Any
    labels: tuple[str, ...] | None = None
    task: str | None = None
    configuration: Configuration | None = None


def parse(data: bytes) -> Parsed:
    """Parse the bytes of a weights file; its first bytes tell the format.

    Raises:
        CheckpointError: the format is unknown, the bytes are damaged, or they ask for code to be run.
    """
    try:
        if data.startswith(b"PK\x03\x04"):
            _check_zip(data)
            return Parsed(_unpickled(data))
        if data[:1] == b"\x80" and data[1:2] <= b"\x05":
            _check_protocol(data)
            return Parsed(_unpickled(data))
        # safetensors: the length of the header in 8 bytes (below 2**48, so two zeros at the end), then the header.
        if data[6:9] == b"\x00\x00{":
            content = safetensors.torch.load(data)
            header = _split_safetensors(data)[0]
            metadata = header.get("__metadata__", {})
            return Parsed(content, _labels(metadata), metadata.get("task"), _configuration(metadata))
    except CheckpointError:
        raise
    except Exception as error:
        # On a damaged file the readers raise many classes, depending on the damaged part: IndexError, struct.error,
        # RuntimeError and more. All of them mean the same to the user.
        told = str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n")[0].strip()
        reason = clipped(f"{type(error).__name__}: {told}" if told else type(error).__name__)
        raise CheckpointError(f"the file is truncated or damaged ({reason})", COPY_AGAIN) from error
    raise CheckpointError(
        f"this is neither a PyTorch nor a safetensors file (it begins with {data[:8]!r})", GIVE_WEIGHTS
    )


def _check_zip(data: bytes) -> None:
    """Check that a zip archive was written by torch.save, is not compressed, and matches its checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        names = {PurePosixPath(name).name for name in entries}
        if "constants.pkl" in names:
            raise CheckpointError("this is a TorchScript archive, which is a program", SAVE_AGAIN)
        if "data.pkl" not in names:
            raise CheckpointError("this zip archive was not written by torch.save (it has no data.pkl)", GIVE_WEIGHTS)
        for name, entry in entries.items():
            # A compressed entry could decompress to more bytes than fit into memory.
            if entry.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(f"entry {clipped(name)} is compressed, which torch.save never does", SAVE_AGAIN)
            # Reading an entry verifies its checksum, which torch does not. A checksum of 0 means that torch was told
            # not to compute it.
            if entry.CRC:
                content = archive.read(entry)
                if name.endswith("data.pkl"):
                    _check_protocol(content)


def _check_protocol(pickled: bytes) -> None:
    """Check that pickled bytes have the protocol of torch.save."""
    if pickled[:2] != b"\x80\x02":
        raise CheckpointError(
            f"the file is pickled with protocol {pickled[1]}, but torch.save uses protocol 2", SAVE_AGAIN
        )


def _unpickled(data: bytes) -> Any:
    """Return the object in a PyTorch file, with its tensors on the CPU."""
    try:
        # timm's training checkpoints contain their command line as a Namespace. This class is safe: it has neither a
        # constructor nor a __setstate__ that acts on the content of a file, the unpickler only sets its fields.
        with torch.serialization.safe_globals([Namespace]):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise
        raise CheckpointError(
            f"the file asks for {clipped(named[1])}, and code in a weights file is never run", SAVE_AGAIN
        ) from error


def safetensors_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return the tensors as a safetensors file; equal arguments give equal bytes."""
    header, data = _split_safetensors(safetensors.torch.save(tensors, metadata))
    # safetensors writes the metadata in random order. The header may be rewritten in sorted order, because the tensors'
    # offsets are relative to its end.
    text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def _split_safetensors(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the decoded header, and the bytes after it."""
    end = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8:end])
    return header, data[end:]


def _labels(metadata: dict[str, str]) -> tuple[str, ...] | None:
    """Return the class labels in the metadata of a safetensors file; None if it has none."""
    text = metadata.get("labels")
    if text is None:
        return None
    labels = _json(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.isprintable() for label in labels):
        raise CheckpointError(
            f"the metadata's labels are not a JSON list of printable texts ({clipped(text)})",
            "write them as a JSON list with one text per class, or omit them",
        )
    return tuple(labels)


def _configuration(metadata: dict[str, str]) -> Configuration | None:
    """Return the `architecture` (a JSON object) in the metadata of a safetensors file, else its `variant`, if any."""
    text = metadata.get("architecture")
    if text is None:
        return metadata.get("variant")
    found = _json(text)
    if not isinstance(found, dict):
        raise CheckpointError(
            f"the metadata's architecture is not a JSON object ({clipped(text)})",
            "write the published configuration keys as a JSON object, or omit it",
        )
    return found


def _json(text: str) -> Any:
    """Return the value of a JSON text; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
