"""Reading and writing of weights files: PyTorch's zip and legacy formats, and safetensors.

No code of a file is executed. This module checks the container; `weights.checkpoints` checks the content.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks.base import Configuration
from cloformer_deploy.system.text import clipped, is_name
from cloformer_deploy.weights.torch_files import COPY_AGAIN, GIVE_WEIGHTS, SAVE_AGAIN, TorchFile, open_legacy, open_zip

MAX_FILE_BYTES = 2**30
"""Size of the largest file that is read, because files are read into memory as a whole.

A training checkpoint of the largest variant has a quarter of this size.
"""


def read(path: Path) -> bytes:
    """Return all bytes of a weights file.

    Raises:
        CheckpointError: the file does not exist, or is empty, larger than `MAX_FILE_BYTES` or not readable.
    """
    if not path.exists():
        raise CheckpointError("there is no such file", GIVE_WEIGHTS)
    if not path.is_file():
        raise CheckpointError("this is not a regular file", GIVE_WEIGHTS)
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


def _given(name: str, value: Any) -> Tensor:  # noqa: ARG001 - the parameters of `TorchFile.tensor`
    """Return the tensor that safetensors has read already."""
    return value  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Parsed:
    """A parsed weights file.

    Attributes:
        content: containers and records; tensors are `Tensor`s or `TensorRecord`s. Not checked.
        tensor: returns the tensor of a name and its value in the content; see `TorchFile.tensor`.
        labels: names of the classes, where the metadata has them.
        task: name of the task, where the metadata has it; not checked.
        configuration: of the network, or the name of a published one, where the metadata has it; not checked.
    """

    content: Any
    tensor: Callable[[str, Any], Tensor] = _given
    labels: tuple[str, ...] | None = None
    task: str | None = None
    configuration: Configuration | None = None


def parse(data: bytes) -> Parsed:
    """Parse the bytes of a weights file; its first bytes tell the format.

    Raises:
        CheckpointError: the format is unknown, or the bytes are damaged.
    """
    try:
        if data.startswith(b"PK\x03\x04"):
            return _of_torch(open_zip(data))
        if data[:1] == b"\x80" and data[1:2] <= b"\x05":
            return _of_torch(open_legacy(data))
        # safetensors: the length of the header in 8 bytes (below 2**48, so two zeros at the end), then the header.
        if data[6:9] == b"\x00\x00{":
            metadata = _split_safetensors(data)[0].get("__metadata__", {})
            content = safetensors.torch.load(data)
            return Parsed(content, _given, _labels(metadata), metadata.get("task"), _configuration(metadata))
    except CheckpointError:
        raise
    except Exception as error:
        # On a damaged file zipfile and safetensors raise many classes, depending on the damaged part. All of them mean
        # the same to the user.
        raise CheckpointError(
            f"the file is truncated or damaged ({clipped(f'{type(error).__name__}: {error}')})", COPY_AGAIN
        ) from error
    raise CheckpointError(
        f"this is neither a PyTorch nor a safetensors file (it begins with {data[:8]!r})", GIVE_WEIGHTS
    )


def _of_torch(file: TorchFile) -> Parsed:
    return Parsed(file.content, file.tensor)


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
    if not isinstance(labels, list) or not all(isinstance(label, str) and is_name(label) for label in labels):
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
