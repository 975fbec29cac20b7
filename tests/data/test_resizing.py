"""Images of the input size are not changed, others are resized like in the published evaluation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data import Preprocessing
from cloformer_deploy.data.preprocessing import fit, load_image
from tests.data.image_files import NOISE, RNG, SMALL, chw, refusal, save


@pytest.mark.parametrize(("suffix", "options"), [(".png", {}), (".webp", {"lossless": True})])
def test_an_image_of_exactly_the_input_size_is_taken_as_it_is(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    path = save(Image.fromarray(NOISE[..., :3]), tmp_path / f"a{suffix}", **options)
    pixels = load_image(path, SMALL)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 32, 64)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert np.array_equal(pixels, chw(NOISE[..., :3]))


def test_a_jpeg_of_exactly_the_input_size_is_what_the_decoder_gives(tmp_path: Path) -> None:
    path = save(Image.fromarray(NOISE[..., :3]), tmp_path / "a.jpeg", quality=90)
    with Image.open(path) as image:
        expected = np.asarray(image)
    assert np.array_equal(load_image(path, SMALL), chw(expected))


def torchvision_eval(image: Image.Image, size: int) -> NDArray[Any]:
    """Return Resize(int(256 / 224 * size), bicubic) and CenterCrop(size), computed like in torchvision."""
    short = int((256 / 224) * size)
    width, height = image.size
    scaled = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    top, left = round((scaled[1] - size) / 2.0), round((scaled[0] - size) / 2.0)
    resized = image.resize(scaled, Image.Resampling.BICUBIC)
    return chw(np.asarray(resized))[:, top : top + size, left : left + size]


# 129 x 101 and 75 x 100 distinguish rounding down from rounding, and rounding halves to even from rounding them down.
@pytest.mark.parametrize(
    "shape", [(65, 65), (100, 75), (75, 100), (500, 333), (20, 30), (64, 65), (129, 101), (75, 110)]
)
@pytest.mark.parametrize("size", [32, 64])
def test_square_inputs_get_the_published_evaluation(tmp_path: Path, shape: tuple[int, int], size: int) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (*shape, 3), np.uint8))
    path = save(image, tmp_path / "a.png")
    assert np.array_equal(load_image(path, Preprocessing.published(size, size)), torchvision_eval(image, size))


@pytest.mark.parametrize("size", range(32, 2049, 32))
def test_the_published_resize_is_the_one_torchvision_scripts_compute(size: int) -> None:
    assert Preprocessing.published(size, size).resize.cover == (int((256 / 224) * size),) * 2


# Wider than 2:1, higher than 2:1, exactly 2:1, smaller than the input.
@pytest.mark.parametrize("shape", [(40, 200), (200, 40), (100, 200), (8, 9)])
def test_other_inputs_are_covered_and_cropped_at_the_center(tmp_path: Path, shape: tuple[int, int]) -> None:
    height, width = shape
    image = Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8))
    cover_height, cover_width = 36, 73  # 32 and 64 times 256 / 224
    if width / height >= cover_width / cover_height:
        scaled = (math.floor(cover_height * width / height), cover_height)
    else:
        scaled = (cover_width, math.floor(cover_width * height / width))
    left, top = round((scaled[0] - 64) / 2), round((scaled[1] - 32) / 2)
    expected = image.resize(scaled, Image.Resampling.BICUBIC).crop((left, top, left + 64, top + 32))
    found = load_image(save(image, tmp_path / "a.png"), SMALL)
    assert found.shape == (3, 32, 64)
    assert np.array_equal(found, chw(np.asarray(expected)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([(32, 32), (32, 64), (96, 32)]))
def test_every_size_of_image_gives_the_input_size(width: int, height: int, size: tuple[int, int]) -> None:
    fitted = fit(Image.new("RGB", (width, height), (10, 20, 30)), Preprocessing.published(*size))
    assert fitted.shape == (3, *size)
    assert (fitted == np.array([[[10]], [[20]], [[30]]])).all()  # nothing from outside the image


def test_a_single_pixel_is_enough(tmp_path: Path) -> None:
    found = load_image(save(Image.new("RGB", (1, 1), (9, 8, 7)), tmp_path / "a.png"), SMALL)
    assert np.array_equal(found, np.broadcast_to(np.array([[[9]], [[8]], [[7]]]), (3, 32, 64)))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_a_strip_that_cannot_be_scaled_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    path = save(Image.new("L", size), tmp_path / "strip.png")
    assert "too narrow" in refusal(path, Preprocessing.published(224, 224)).message
