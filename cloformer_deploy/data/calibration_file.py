"""The file format of calibration sets: safetensors, with the pixels as the only tensor and the manifest as metadata.

    8 bytes     length of the header, little-endian
    header      {"__metadata__": {"manifest": JSON}, "pixels": {"dtype": "U8", "shape": [n, 3, height, width], ...}}
    the rest    the pixels, in order

Pixels are read and written in batches, so that memory does not grow with the number of images.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cloformer_deploy.data.calibration_manifest import CalibrationManifest, Count
from cloformer_deploy.errors import DataError, RequestError
from cloformer_deploy.system.files import replaced
from cloformer_deploy.system.schema import Strict, first_error

MAX_HEADER_BYTES = 100_000_000
"""Length of the longest header that the safetensors library reads."""

MAKE_AGAIN = "make it again with: cloformer-deploy calibrate IMAGES --output FILE"
_LENGTH_BYTES = 8
_INVALID = "is not a calibration set, or is damaged"


class _Metadata(Strict):
    manifest: str


class _Pixels(Strict):
    dtype: Literal["U8"]
    shape: tuple[Count, Count, Count, Count]
    data_offsets: tuple[Literal[0], Count]


class _Header(Strict):
    metadata: _Metadata = Field(alias="__metadata__")
    pixels: _Pixels


def header(manifest: CalibrationManifest, length: int = 0) -> bytes:
    """Return all bytes before the pixels, padded with spaces to at least `length` and to a multiple of 8."""
    metadata = {"manifest": manifest.model_dump_json()}
    pixels = {"dtype": "U8", "shape": manifest.shape, "data_offsets": (0, _pixel_bytes(manifest))}
    text = json.dumps({"__metadata__": metadata, "pixels": pixels}, separators=(",", ":")).encode()
    text = text.ljust(length - _LENGTH_BYTES)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def read_header(path: Path) -> tuple[CalibrationManifest, int]:
    """Read the manifest of a calibration set's file.

    Returns:
        The manifest, and the offset of the first pixel in bytes.

    Raises:
        DataError: the file does not exist, is not readable, is not a calibration set, or is damaged.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is not a file", "pass a file that calibrate wrote")
        with path.open("rb") as file:
            return _parsed(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "pass a file that calibrate wrote") from error
    except ValidationError as error:
        raise DataError(f"{path} {_INVALID}: {first_error(error)}", MAKE_AGAIN) from error
    except ValueError as error:
        raise DataError(f"{path} {_INVALID}: {error}", MAKE_AGAIN) from error


def _parsed(file: BinaryIO, size: int) -> tuple[CalibrationManifest, int]:
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    start = _LENGTH_BYTES + length
    if start > size or length > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {length} bytes, the file {size}")
    read = _Header.model_validate_json(file.read(length))
    manifest = CalibrationManifest.model_validate_json(read.metadata.manifest)
    if read.pixels.shape != manifest.shape:
        raise ValueError(f"its pixels have shape {read.pixels.shape}, in the manifest {manifest.shape}")
    if read.pixels.data_offsets[1] != _pixel_bytes(manifest):
        raise ValueError(f"its data_offsets are {read.pixels.data_offsets}, its pixels {_pixel_bytes(manifest)} bytes")
    if size - start != _pixel_bytes(manifest):
        raise ValueError(f"it has {size - start} bytes of pixels instead of {_pixel_bytes(manifest)}")
    return manifest, start


def read_pixels(path: Path, size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the pixels of a calibration set's file in order, RGB uint8 (B, 3, height, width).

    Args:
        path: the file.
        size: images at a time; the last array may have fewer.

    Raises:
        DataError: for the reasons of `read_header`, or the file was truncated while it was read.
    """
    manifest, start = read_header(path)
    n, *image = manifest.shape
    with path.open("rb") as file:
        file.seek(start)
        for first in range(0, n, size):
            shape = (min(size, n - first), *image)
            pixels = np.fromfile(file, np.uint8, int(np.prod(shape)))
            if pixels.size < np.prod(shape):
                raise DataError(f"{path} was truncated while it was read", MAKE_AGAIN)
            yield pixels.reshape(shape)


def _pixel_bytes(manifest: CalibrationManifest) -> int:
    n, channels, height, width = manifest.shape
    return n * channels * height * width


@contextmanager
def writing(output: Path) -> Iterator[BinaryIO]:
    """Create or replace a calibration set's file atomically; missing parent folders are created.

    After an error the temporary file and the created folders are removed, and the previous file is unchanged.

    Yields:
        The temporary file, open for writing.

    Raises:
        RequestError: there is something other than a calibration set at `output`, or it cannot be written.
    """
    _check_replaceable(output)
    with ExitStack() as stack:
        try:
            stack.enter_context(_parents(output))
            staged = stack.enter_context(replaced(output))
            file = stack.enter_context(staged.open("wb"))
        except OSError as error:
            raise RequestError(f"{output} cannot be written: {error.strerror}", "choose another output file") from error
        yield file


@contextmanager
def _parents(output: Path) -> Iterator[None]:
    """Create the missing parent folders of a file; remove them again if an error is raised inside."""
    missing = [folder for folder in output.parents if not folder.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # it was not created, or another process has written into it
                folder.rmdir()
        raise


def _check_replaceable(output: Path) -> None:
    if not output.exists():
        return
    try:
        read_header(output)
    except DataError as error:
        raise RequestError(
            f"{output} exists and is not a calibration set, so it is not replaced",
            "move it, or choose another output file",
        ) from error
