"""Random crops and what is done to them: a function of seed, epoch and index alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cloformer_deploy.data.masks import IGNORED
from tests.tools.samples import tiny_recipe
from tools.training.augmentation import MEAN_COLOUR, augment, crop_box, generator

SIDES = st.integers(1, 500)
SEEDS = st.integers(0, 2**32 - 1)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@settings(deadline=None)
@given(SIDES, SIDES, st.floats(0.01, 1), SEEDS)
def test_a_box_lies_within_the_image(width: int, height: int, area: float, seed: int) -> None:
    left, top, right, bottom = crop_box(width, height, area, np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@settings(deadline=None)
@given(st.floats(0.05, 1), SEEDS)
def test_a_box_has_the_area_and_shape_asked_for(area: float, seed: int) -> None:
    left, top, right, bottom = crop_box(100, 100, area, np.random.default_rng(seed))
    width, height = right - left, bottom - top
    assert width * height >= 100 * 100 * area * (1 - 1e-9)
    assert 3 / 4 - 1e-9 <= width / height <= 4 / 3 + 1e-9


@settings(deadline=None)
@given(SIDES, SIDES, st.sampled_from([32, 64]), SEEDS, st.sampled_from([None, 200.0]))
def test_any_image_becomes_one_of_the_size(
    width: int, height: int, size: int, seed: int, sharpen: float | None
) -> None:
    recipe, rng = tiny_recipe(sharpen=sharpen), np.random.default_rng(seed)
    image = Image.new("RGB", (width, height))
    pixels, mask = augment(image, image.getchannel(0), (size, 96), recipe, rng)
    assert pixels.shape == (3, size, 96)
    assert mask is not None
    assert mask.shape == (size, 96)
    assert mask.dtype == np.uint8
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous


def test_it_depends_on_seed_epoch_and_index_alone() -> None:
    def once(*key: int) -> bytes:
        return augment(noise(40, 48), None, (32, 32), tiny_recipe(), generator(*key))[0].tobytes()

    assert once(1, 2, 3) == once(1, 2, 3)
    assert len({once(1, 2, 3), once(0, 2, 3), once(1, 0, 3), once(1, 2, 0), once(3, 2, 1)}) == 5


def test_without_strength_and_at_full_area_only_flip_and_filter_are_left() -> None:
    image, recipe = noise(32, 32), tiny_recipe(crop_area=1.0, augmentation=0.0)
    upright = np.asarray(image).transpose(2, 0, 1)
    for seed in range(20):
        # A box of the full area is square here only by chance, so the largest square is taken.
        pixels, _ = augment(image, None, (32, 32), recipe, np.random.default_rng(seed))
        assert np.array_equal(pixels, upright) or np.array_equal(pixels, upright[:, :, ::-1])


def test_a_square_is_cut_out() -> None:
    cut = 0
    for seed in range(50):
        mask = Image.new("L", (64, 64))
        pixels, classes = augment(
            Image.new("RGB", (64, 64)), mask, (64, 64), tiny_recipe(), np.random.default_rng(seed)
        )
        covered = (pixels == np.array(MEAN_COLOUR, np.uint8)[:, None, None]).all(0)
        assert np.array_equal(classes == IGNORED, covered)
        cut = max(cut, int(covered.sum()))
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        assert covered.sum() == len(rows) * len(columns) > 0
    assert cut == round(0.4 * 64) ** 2


@pytest.mark.parametrize(("size", "sharper"), [(64, True), (16, False)])
def test_only_what_was_scaled_up_is_sharpened(size: int, sharper: bool) -> None:
    def contrast(sharpen: float | None) -> float:
        recipe = tiny_recipe(crop_area=1.0, augmentation=0.0, sharpen=sharpen)
        images = [
            augment(noise(32, 32), None, (size, size), recipe, np.random.default_rng(seed))[0] for seed in range(20)
        ]
        return float(np.abs(np.diff(np.stack(images).astype(float), axis=3)).mean())

    assert (contrast(200) > 1.5 * contrast(None)) == sharper
    assert (contrast(200) == contrast(None)) != sharper


def test_a_mask_goes_the_way_of_its_image() -> None:
    left = np.zeros((48, 64), np.uint8)
    left[:, :20] = 200
    recipe = tiny_recipe(augmentation=0.0)
    for seed in range(20):
        image = Image.fromarray(np.dstack([left] * 3))
        pixels, mask = augment(image, Image.fromarray(left), (32, 64), recipe, np.random.default_rng(seed))
        assert mask is not None
        assert set(np.unique(mask)) <= {0, 200}
        assert np.mean((pixels[0] > 100) != (mask > 100)) < 0.04
