"""PyTorch's files: the zip archive of `torch.save`, and the format before it (torch 1.5 and earlier).

Source: torch/serialization.py. Both hold a pickle of objects, in which tensors name storages, and the storages' bytes.
"""

import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.system.text import clipped
from cloformer_deploy.weights.pickles import unpickle
from cloformer_deploy.weights.records import TensorRecord

COPY_AGAIN = "copy or download the file again, and compare its checksum with that of the source"
SAVE_AGAIN = 'where the weights were trained, save them again with torch.save(model.state_dict(), "weights.pth")'
GIVE_WEIGHTS = "pass a PyTorch (.pth, .pt) or safetensors file of CloFormer weights"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class TorchFile:
    """A PyTorch file whose objects are read, and whose tensors are not.

    Attributes:
        content: the pickled object; tensors are `TensorRecord`s.
        storage: returns the bytes of a storage by its key; raises KeyError.
        file_bytes: size of the file, which no tensor may exceed.
    """

    content: Any
    storage: Callable[[str], bytes]
    file_bytes: int

    def tensor(self, name: str, record: TensorRecord) -> Tensor:
        """Return a copy of a tensor's numbers, of the dtype in the file, contiguous.

        Args:
            name: of the tensor, for errors.
            record: of this file.

        Raises:
            CheckpointError: its dtype is not known, or it does not lie within its storage or the file.
        """
        dtype = getattr(torch, record.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise CheckpointError(
                f"{clipped(name)} is of the type {clipped(record.dtype)}, which is not read", SAVE_AGAIN
            )
        size = math.prod(record.shape) * dtype.itemsize
        if size > self.file_bytes:  # with a stride of 0 a single stored number can be a tensor of any size
            raise CheckpointError(
                f"{clipped(name)} is a tensor of {size} bytes in a file of {self.file_bytes} bytes", SAVE_AGAIN
            )
        if size == 0:
            return torch.zeros(record.shape, dtype=dtype)
        last = record.offset + sum((side - 1) * step for side, step in zip(record.shape, record.stride, strict=True))
        try:
            content = self.storage(record.key)
        except KeyError:
            raise CheckpointError(f"the storage of {clipped(name)} is missing", COPY_AGAIN) from None
        if last >= record.storage_numel or record.storage_numel * dtype.itemsize > len(content):
            raise CheckpointError(f"{clipped(name)} does not lie within its storage", COPY_AGAIN)
        values = torch.frombuffer(bytearray(content), dtype=dtype)
        return values.as_strided(record.shape, record.stride, record.offset).clone(
            memory_format=torch.contiguous_format
        )


def open_zip(data: bytes) -> TorchFile:
    """Read the archive of `torch.save`, of any pickle protocol, and check it against its checksums.

    Raises:
        CheckpointError: it is another archive, is compressed, damaged, or of big-endian numbers.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        names = {PurePosixPath(name).name for name in entries}
        if "constants.pkl" in names:
            raise CheckpointError("this is a TorchScript archive, which is a program", SAVE_AGAIN)
        if "data.pkl" not in names:
            raise CheckpointError("this zip archive was not written by torch.save (it has no data.pkl)", GIVE_WEIGHTS)
        if sum(entry.file_size for entry in entries.values()) > len(data):
            raise CheckpointError("the archive's entries are larger than the archive", COPY_AGAIN)
        contents = {name: _entry(archive, entry) for name, entry in entries.items()}
    pickled = min((name for name in contents if PurePosixPath(name).name == "data.pkl"), key=len)
    folder = pickled.removesuffix("data.pkl")
    if contents.get(f"{folder}byteorder", b"little") != b"little":
        raise CheckpointError("the file has big-endian numbers", "save it again on a little-endian machine")
    return TorchFile(unpickle(io.BytesIO(contents[pickled])), lambda key: contents[f"{folder}data/{key}"], len(data))


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    # A compressed entry could decompress to more bytes than fit into memory.
    if entry.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(f"entry {clipped(entry.filename)} is compressed, which torch.save never does", SAVE_AGAIN)
    # Reading verifies the checksum, which torch does not. A checksum of 0 means that torch was told not to compute it.
    if entry.CRC == 0:
        with archive.open(entry) as file:
            file._expected_crc = None  # type: ignore[attr-defined]
            return file.read()
    return archive.read(entry)


def open_legacy(data: bytes) -> TorchFile:
    """Read the format before the archive: four pickles (magic number, protocol, system, object), keys, storages.

    Raises:
        CheckpointError: it is another pickle, or damaged.
    """
    file = io.BytesIO(data)
    if unpickle(file) != LEGACY_MAGIC:
        raise CheckpointError("this pickle was not written by torch.save", GIVE_WEIGHTS)
    unpickle(file)
    system = unpickle(file)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise CheckpointError("the file has big-endian numbers", "save it again on a little-endian machine")
    content = unpickle(file)
    keys = unpickle(file)
    sizes = dict(_element_sizes(content))
    storages: dict[str, bytes] = {}
    for key in keys if isinstance(keys, list) else []:
        numel = int.from_bytes(file.read(8), "little")
        size = numel * sizes.get(key, 1)
        if not isinstance(key, str) or numel >= 2**48 or size > len(data) - file.tell():
            raise CheckpointError("the file is truncated or damaged (a storage ends behind it)", COPY_AGAIN)
        storages[key] = file.read(size)
    return TorchFile(content, storages.__getitem__, len(data))


def _element_sizes(content: Any) -> list[tuple[str, int]]:
    """Return the bytes of an element of each storage that a tensor names."""
    from cloformer_deploy.weights.finding import walk

    found = []
    for value in walk(content):
        if isinstance(value, TensorRecord):
            dtype = getattr(torch, value.dtype, None)
            found.append((value.key, dtype.itemsize if isinstance(dtype, torch.dtype) else 1))
    return found
