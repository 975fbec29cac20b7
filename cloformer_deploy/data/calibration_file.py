"""The file of a calibration set: safetensors, with the pixels as its one tensor and the manifest in its header.

    8 bytes     the header's length
    header      {"__metadata__": {"manifest": JSON}, "pixels": {"dtype": "U8", "shape": [n, 3, height, width], ...}}
    the rest    the pixels, in order

Both directions are streams: of the pixels no more than a batch is in memory.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloformer_deploy.data.calibration_manifest import CalibrationManifest, Count
from cloformer_deploy.errors import DataError, RequestError

MAX_HEADER_BYTES = 100_000_000
"""What safetensors itself reads at most."""

MAKE_AGAIN = "make it again with: cloformer-deploy calibrate IMAGES --output FILE"
_LENGTH_BYTES = 8


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Metadata(_Part):
    manifest: str


class _Pixels(_Part):
    dtype: Literal["U8"]
    shape: tuple[Count, Count, Count, Count]
    data_offsets: tuple[Literal[0], Count]


class _Header(_Part):
    metadata: _Metadata = Field(alias="__metadata__")
    pixels: _Pixels


def header(manifest: CalibrationManifest, length: int = 0) -> bytes:
    """All bytes before the pixels, padded to at least `length`."""
    metadata = {"manifest": manifest.model_dump_json()}
    pixels = {"dtype": "U8", "shape": manifest.shape, "data_offsets": (0, _pixel_bytes(manifest))}
    text = json.dumps({"__metadata__": metadata, "pixels": pixels}, separators=(",", ":")).encode()
    text = text.ljust(length - _LENGTH_BYTES)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def read_header(path: Path) -> tuple[CalibrationManifest, int]:
    """The manifest of a calibration set's file, and where its pixels begin.

    Raises:
        DataError: no such file, not readable, not a calibration set, or damaged.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is not a file", "give a file that calibrate wrote")
        with path.open("rb") as file:
            return _parsed(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "give a file that calibrate wrote") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ascii(".".join(str(part) for part in first["loc"]))[1:-1][:80]  # may be the file's own words
        raise DataError(
            f"{path} is not a calibration set, or damaged: {place + ': ' if place else ''}{first['msg']}", MAKE_AGAIN
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is not a calibration set, or damaged: {error}", MAKE_AGAIN) from error


def _parsed(file: BinaryIO, size: int) -> tuple[CalibrationManifest, int]:
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    start = _LENGTH_BYTES + length
    if start > size or length > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    read = _Header.model_validate_json(file.read(length))
    manifest = CalibrationManifest.model_validate_json(read.metadata.manifest)
    if read.pixels.shape != manifest.shape:
        raise ValueError(f"pixels of shape {read.pixels.shape}, {manifest.shape} in the manifest")
    if read.pixels.data_offsets[1] != _pixel_bytes(manifest):
        raise ValueError(f"data_offsets {read.pixels.data_offsets} for {_pixel_bytes(manifest)} bytes of pixels")
    if size - start != _pixel_bytes(manifest):
        raise ValueError(f"{size - start} bytes of pixels instead of {_pixel_bytes(manifest)}")
    return manifest, start


def read_pixels(path: Path, size: int) -> Iterator[NDArray[np.uint8]]:
    """The pixels of a calibration set's file, RGB uint8 (B, 3, height, width), `size` images at a time.

    Raises:
        DataError: as `read_header`, or the file was cut short since.
    """
    manifest, start = read_header(path)
    n, *image = manifest.shape
    with path.open("rb") as file:
        file.seek(start)
        for first in range(0, n, size):
            shape = (min(size, n - first), *image)
            pixels = np.fromfile(file, np.uint8, int(np.prod(shape)))
            if pixels.size < np.prod(shape):
                raise DataError(f"{path} was cut short while it was read", MAKE_AGAIN)
            yield pixels.reshape(shape)


def _pixel_bytes(manifest: CalibrationManifest) -> int:
    n, channels, height, width = manifest.shape
    return n * channels * height * width


@contextmanager
def replaced(output: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place at `output` when all went well; else what stood there stands there still.

    Raises:
        RequestError: something else than a calibration set is at `output`, or it cannot be written.
    """
    _check_occupied(output)
    missing = [folder for folder in output.parents if not folder.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{output.name}-", dir=output.parent)
    except OSError as error:
        _remove(missing)
        raise RequestError(f"{output} cannot be written: {error.strerror}", "choose another --output") from error
    staged = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.chmod(0o644)  # mkstemp's file is for its owner only
        staged.replace(output)
    except BaseException:
        staged.unlink()
        _remove(missing)
        raise


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it was not made, or others use it by now
            folder.rmdir()


def _check_occupied(output: Path) -> None:
    if not output.exists():
        return
    try:
        read_header(output)
    except DataError as error:
        raise RequestError(
            f"{output} exists and is not a calibration set, which could be replaced",
            "move it, or choose another --output",
        ) from error
