"""Folders with images/ and masks/: what is read, and what is refused with the file's name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloformer_deploy.data import Preprocessing, open_masks
from cloformer_deploy.data.masks import IGNORED, has_masks, palette, read_mask, save_mask
from cloformer_deploy.errors import DataError

EXACT = Preprocessing.published(32, 64, margin=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of 64 x 32 pixels, whose red is 40 times their mask."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for index in range(3):
        mask = rng.integers(0, 5, (32, 64), np.uint8)
        save_mask(mask, tmp_path / "masks" / f"{index}.png")
        Image.fromarray(np.dstack([mask * 40] * 3)).save(tmp_path / "images" / f"{index}.png")
    return tmp_path


def test_images_and_masks_go_together(folder: Path) -> None:
    found = open_masks(folder, 5)
    assert (len(found), found.labels, found.has_targets, found.warnings) == (3, None, True, ())
    (batch,) = found.batches(EXACT, 3)
    assert batch.truths is not None
    assert np.array_equal(batch.pixels[:, 0], np.stack(batch.truths) * 40)
    assert found.select([2]).identity(0) == found.identity(2) != found.identity(1)
    assert len(found.limited(2)) == 2


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (96, 128)])
def test_scaled_and_cropped_a_mask_stays_with_its_image(tmp_path: Path, size: tuple[int, int]) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    mask = np.zeros((60, 90), np.uint8)
    mask[10:40, 20:70] = 1
    save_mask(mask, tmp_path / "masks" / "a.png")
    Image.fromarray(np.dstack([mask * 255] * 3)).save(tmp_path / "images" / "a.png")
    found, preprocessing = open_masks(tmp_path, 2), Preprocessing.published(*size, margin=False)
    scaled, pixels = found.truth(0, preprocessing), found.load(0, preprocessing)
    assert scaled.shape == size
    assert np.mean((pixels[0] > 127) != (scaled == 1)) < 0.02


@pytest.mark.parametrize("mode", ["P", "L", "1", "I;16"])
def test_kinds_of_masks(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1], [1, 0]], np.uint8)
    image = Image.fromarray(values * 255).convert("1") if mode == "1" else Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    if mode == "P":
        image.putpalette(palette().tobytes())
    image.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as saved:
        assert saved.mode == mode
    assert np.array_equal(read_mask(tmp_path / "mask.png", 2), values)


def test_ignored_pixels_are_no_class(tmp_path: Path) -> None:
    values = np.array([[0, IGNORED]], np.uint8)
    save_mask(values, tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", 1), values)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.full((32, 64), 7, np.uint8), r"1\.png has values that are no classes: 7 \(the model has 5 classes\)"),
        (np.full((32, 64), 1000, np.uint16), "no classes: 1000"),
        (np.zeros((32, 64, 3), np.uint8), r"1\.png is a PNG of mode RGB, in which no value is a class"),
        (np.zeros((16, 64), np.uint8), r"1\.png has 64 x 16 pixels, its image 64 x 32"),
        (b"\x89PNG\r\n\x1a\nrest", r"1\.png cannot be read as a PNG mask"),
        (b"\xff\xd8\xff", r"1\.png cannot be read as a PNG mask"),
    ],
)
def test_masks_that_are_refused(
    folder: Path, content: bytes | np.ndarray[tuple[int, ...], np.dtype[np.uint8]], words: str
) -> None:
    path = folder / "masks" / "1.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.fromarray(content).save(path)
    with pytest.raises(DataError, match=words):
        open_masks(folder, 5).truth(1, EXACT)


def test_folders_that_are_refused(folder: Path) -> None:
    assert has_masks(folder)
    assert not has_masks(folder / "images")
    with pytest.raises(DataError, match="has no folder images and masks"):
        open_masks(folder / "images", 5)
    (folder / "masks" / "1.png").rename(folder / "masks" / "other.png")
    with pytest.raises(DataError, match=r"1 image of .* without a mask: 1\.png"):
        open_masks(folder, 5)
    (folder / "masks" / "other.png").rename(folder / "masks" / "1.png")
    (folder / "images" / "1.jpg").write_bytes((folder / "images" / "1.png").read_bytes())
    with pytest.raises(DataError, match=r"several images of .* share a mask: 1"):
        open_masks(folder, 5)


def test_masks_without_an_image_are_told(folder: Path) -> None:
    (folder / "images" / "2.png").unlink()
    (warning,) = open_masks(folder, 5).warnings
    assert "masks of" in warning
    assert warning.endswith("without an image are left out: 2")


def test_the_palette_is_that_of_pascal_voc() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 15: (192, 128, 128), 255: (224, 224, 192)}
    assert {value: tuple(palette()[value].tolist()) for value in known} == known
    assert len(np.unique(palette(), axis=0)) == 256
