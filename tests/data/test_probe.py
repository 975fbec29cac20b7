"""Probe pictures: the same from the same seed, of every size, and neither flat nor saturated."""

import numpy as np
import pytest

from cloformer_deploy.data import probe_pictures


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (224, 32)])
def test_shape_and_dtype(height: int, width: int) -> None:
    pictures = probe_pictures(2, height, width)
    assert pictures.dtype == np.uint8
    assert pictures.shape == (2, 3, height, width)


def test_the_seed_decides_and_more_pictures_begin_with_the_same() -> None:
    first = probe_pictures(3, 32, 64, seed=5)
    assert np.array_equal(first, probe_pictures(3, 32, 64, seed=5))
    assert np.array_equal(first[:2], probe_pictures(2, 32, 64, seed=5))
    assert not np.array_equal(first, probe_pictures(3, 32, 64, seed=6))
    assert not np.array_equal(first[0], first[1])


def test_the_default_seed_is_0() -> None:
    assert np.array_equal(probe_pictures(1, 32, 32), probe_pictures(1, 32, 32, seed=0))


def test_they_use_the_range_of_photographs() -> None:
    pictures = probe_pictures(16, 128, 128).astype(np.float64)
    assert 108 < pictures.mean() < 148
    assert 40 < pictures.std() < 80
    assert np.isin(pictures, (0, 255)).mean() < 0.1
    assert np.abs(pictures[:, 0] - pictures[:, 1]).mean() > 10  # coloured


def test_coarse_structure_outweighs_fine() -> None:
    power = np.abs(np.fft.fft2(probe_pictures(16, 128, 128).astype(np.float64) - 128)) ** 2
    spectrum = power.mean(axis=(0, 1))
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(128, 1 / 128), np.fft.fftfreq(128, 1 / 128)))
    bands = [spectrum[(radius >= low) & (radius < 2 * low)].mean() for low in (1, 4, 16)]
    assert bands[0] > 4 * bands[1] > 16 * bands[2] > 0
