"""Malformed images and folders of them through the command line."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.command_line import CLASSES, CopyBundle
from tests.cli.refusals import Case, check, ids

pytestmark = pytest.mark.integration


def image(path: Path, seed: int = 0, side: int = 64) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def truncated(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        path = folder / "data" / name
        content = image(path)
        path.write_bytes(content[: len(content) // 2])

    return make


def files(*names: str) -> Callable[[Path], object]:
    return lambda folder: [image(folder / "data" / name) for name in names]


def written(name: str, content: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        image(folder / "data" / "good.png")
        (folder / "data" / name).write_bytes(content)

    return make


def huge_png() -> bytes:
    """A PNG that says it has 400 million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def eps_called_jpg(folder: Path) -> None:
    """A kind that Pillow would open with another program."""
    image(folder / "data" / "x.eps")
    (folder / "data" / "x.eps").rename(folder / "data" / "x.jpg")


def only_text(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "a.txt").touch()


def images(name: str, make: Callable[[Path], object], *told: str, fresh: bool = False) -> Case:
    return Case(name, ("validate", "bundle", "--data", "data"), ("data", *told), make=make, fresh=fresh)


MANY_FOLDERS = files(*(f"c{index}/a.png" for index in range(CLASSES + 1)))
IMAGES = [
    images("text", written("text.jpg", b"not an image"), "data/text.jpg", fresh=True),
    images("empty-file", written("empty.png", b""), "data/empty.png"),
    images("truncated-png", truncated("half.png"), "data/half.png"),
    images("truncated-jpeg", truncated("half.jpg"), "data/half.jpg"),
    images("truncated-in-class", truncated("arrow/half.png"), "data/arrow/half.png"),
    images("another-format", eps_called_jpg, "data/x.jpg"),
    images("too-many-pixels", written("huge.png", huge_png()), "data/huge.png"),
    images("empty-folder", lambda folder: (folder / "data").mkdir(), "no images that are read"),
    images("only-other-files", only_text, "no images that are read"),
    images("missing-folder", lambda folder: None, "not a folder"),
    images("a-file", lambda folder: (folder / "data").touch(), "not a folder"),
    images("mixed-layout", files("a.png", "b.png", "class/c.png"), "2 images beside sub-folders"),
    images("too-many-classes", MANY_FOLDERS, f"{CLASSES + 1} of {CLASSES + 1} sub-folders", "labels"),
    images("only-some-labels-known", files("fish/a.png", "carp/a.png"), "carp"),
]


@pytest.mark.parametrize("case", ids(IMAGES))
def test_images(case: Case, drafted: CopyBundle, tmp_path: Path) -> None:
    drafted()
    check(case, tmp_path)
