"""Builds image files of many kinds for the tests."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data import Preprocessing, load_image
from cloformer_deploy.errors import DataError

SMALL = Preprocessing.published(32, 64)

RNG = np.random.default_rng(0)
NOISE: NDArray[np.uint8] = RNG.integers(0, 256, (32, 64, 4), np.uint8)
GRAY: NDArray[np.uint8] = NOISE[..., 0]


def chw(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels.transpose(2, 0, 1)


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def red_image(path: Path, red: int = 0) -> Path:
    """Write an image of 32 x 32 pixels of one red, in the format of the path's suffix, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(Image.new("RGB", (32, 32), (red, 0, 0)), path, lossless=True)


def encoded(kind: str, image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refusal(path: Path, preprocessing: Preprocessing = SMALL) -> DataError:
    """Return the error of loading a file, which must name the file and have a hint."""
    with pytest.raises(DataError) as caught:
        load_image(path, preprocessing)
    assert path.name in caught.value.message
    assert caught.value.hint
    return caught.value


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """Return a PNG with these rows of pixels, and with this size in its header."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes with this size in its header."""
    return png(width, height, 8, 0, bytes(64))
