"""Image files of every kind, made here and loaded."""

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
GREY: NDArray[np.uint8] = NOISE[..., 0]


def chw(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels.transpose(2, 0, 1)


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def encoded(kind: str, image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refusal(path: Path, preprocessing: Preprocessing = SMALL) -> DataError:
    """The error of loading a file; every refusal names the file and has a hint."""
    with pytest.raises(DataError) as caught:
        load_image(path, preprocessing)
    assert path.name in caught.value.message
    assert caught.value.hint
    return caught.value


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG of these rows, whatever size its header claims."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""
    return png(width, height, 8, 0, bytes(64))
