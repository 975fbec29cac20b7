"""The parts of a rendered image (random numbers, distances, placements, figures) and its statistics."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data.rendered import CLASSES, SIZE, render
from cloformer_deploy.data.rendered.objects import PAINTERS
from cloformer_deploy.data.rendered.placement import Placement
from cloformer_deploy.data.rendered.plane import Plane
from cloformer_deploy.data.rendered.randomness import Stream, direction
from cloformer_deploy.data.rendered.scenery import cloud, doubled
from cloformer_deploy.data.rendered.textures import texture

pytestmark = pytest.mark.integration

SEEDS = st.integers(0, 2**32)


def plane(size: int = 96) -> Plane:
    place = ((np.arange(size, dtype=np.float32) + 0.5) * (2.2 / size) - 1.1).astype(np.float32)
    u, v = np.meshgrid(place, place)
    return Plane(u, v, 2.2 / size)


def test_equal_keys_give_equal_streams_and_others_do_not() -> None:
    first, same, other = (Stream("key", seed).noise(8) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_noise_is_normal_enough() -> None:
    noise = Stream("noise").noise(300, 1000).astype(np.float64)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs(np.abs(noise).mean() - math.sqrt(2 / math.pi)) < 0.02
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 0.01


@given(SEEDS, st.integers(-5, 5), st.integers(0, 9))
def test_drawn_numbers_are_in_their_range(seed: int, low: int, span: int) -> None:
    random = Stream(seed)
    assert low <= random.uniform(low, low + span + 1) < low + span + 1
    assert low <= random.whole(low, low + span) <= low + span
    assert random.choice("abc") in "abc"


def test_whole_numbers_are_even() -> None:
    random = Stream("whole")
    counts = np.bincount([random.whole(0, 4) for _ in range(5000)], minlength=5)
    assert counts.min() > 850


@given(st.floats(-3, 3))
def test_directions_are_on_the_unit_circle_and_the_grid(turns: float) -> None:
    x, y = direction(turns)
    assert math.hypot(x, y) == pytest.approx(1, abs=2e-6)
    assert (x * 2**20).is_integer()


def test_turns_are_the_angle() -> None:
    drawn = plane()
    expected = np.arctan2(drawn.v, drawn.u) / (2 * math.pi)
    assert np.abs(drawn.turns - expected).max() < 1e-4


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.1, 0.8))
def test_a_polygon_of_many_corners_is_a_disc(x: float, y: float, radius: float) -> None:
    drawn = plane(32)
    corners = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in np.arange(64) * (math.pi / 32)]
    assert np.abs(drawn.polygon(corners) - drawn.disc(x, y, radius)).max() < 0.01


def test_a_polygon_that_is_not_convex_has_its_notch_outside() -> None:
    distance = plane(64).polygon([(-1, -1), (0, 0.5), (1, -1), (0, 1)])
    assert distance[10, 32] > 0 > distance[50, 32]


@given(SEEDS)
def test_a_placements_plane_is_its_inverse(seed: int) -> None:
    random = Stream(seed)
    place = (random.uniform(60, 160), random.uniform(60, 160))
    placement = Placement.at(*place, random.uniform(20, 90), random.uniform(0, 1), 1.2, 0.2).tilted(random, 0.22)
    rows, columns = placement.window(SIZE, SIZE)
    drawn = placement.plane((rows, columns))
    depth = 1 + placement.p * drawn.u + placement.q * drawn.v
    x = placement.x + (placement.a * drawn.u + placement.b * drawn.v) / depth
    y = placement.y + (placement.c * drawn.u + placement.d * drawn.v) / depth
    inside = np.maximum(np.abs(drawn.u), np.abs(drawn.v)) <= 1
    assert np.abs(x - (np.arange(columns.start, columns.stop) + 0.5))[inside].max() < 0.01
    assert np.abs(y - (np.arange(rows.start, rows.stop) + 0.5)[:, None])[inside].max() < 0.01


def test_a_window_outside_the_image_is_empty() -> None:
    rows, columns = Placement.at(-500, 100, 50, 0.1).window(SIZE, SIZE)
    assert (columns.stop - columns.start) * (rows.stop - rows.start) == 0


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_draws_within_its_square(name: str) -> None:
    drawn = plane()
    variants = []
    for seed in range(12):
        figure = PAINTERS[name](drawn, Stream(name, seed))
        for part in (figure.cover, figure.tone):
            assert part.dtype == np.float32
            assert np.isfinite(part).all()
            assert part.min() >= -1e-5
            assert part.max() <= 1 + 1e-5
        assert 0.1 < figure.cover.mean() < 0.8
        assert figure.cover[np.maximum(np.abs(drawn.u), np.abs(drawn.v)) > 1.03].max() == 0
        variants.append(figure.cover.tobytes() + figure.tone.tobytes())
    assert len(set(variants)) > 6


@given(SEEDS)
def test_textures_are_shares(seed: int) -> None:
    tone = texture(plane(32), Stream(seed))
    assert tone.dtype == np.float32
    assert 0 <= tone.min() <= tone.max() <= 1


def test_doubling_keeps_the_mean_and_straight_lines() -> None:
    ramp = np.add.outer(np.arange(8), 2 * np.arange(8)).astype(np.float32)
    wide = doubled(ramp)
    assert wide.shape == (16, 16)
    assert wide.dtype == np.float32
    assert wide.mean() == pytest.approx(ramp.mean())
    assert np.allclose(np.diff(wide[1:-1, 1:-1], axis=1), 1)


def test_clouds_have_their_deviation() -> None:
    clouds = np.stack([cloud(Stream("cloud", seed), SIZE, SIZE) for seed in range(20)])
    assert clouds.shape == (20, SIZE, SIZE)
    assert 0.7 < clouds.std() < 0.9


def spectral_slope(images: Iterable[NDArray[np.uint8]]) -> float:
    """Return the exponent of the power law that the mean power spectrum of images (SIZE, SIZE, 3) follows."""
    window = np.outer(np.hanning(SIZE), np.hanning(SIZE))
    power = np.zeros((SIZE, SIZE))
    for image in images:
        gray = image.astype(np.float64).mean(axis=-1)
        power += np.abs(np.fft.fft2((gray - gray.mean()) * window)) ** 2
    axis = np.fft.fftfreq(SIZE, 1 / SIZE)
    frequency = np.hypot(*np.meshgrid(axis, axis))
    bands = [(frequency >= low) & (frequency < 2 * low) for low in (2, 4, 8, 16, 32, 64)]
    places = np.log([frequency[band].mean() for band in bands])
    powers = np.log([power[band].mean() for band in bands])
    return float(np.polyfit(places, powers, 1)[0])


def test_images_have_the_spectrum_of_photographs(shared: Path) -> None:
    photographs = sorted((shared / "imagenette" / "calib224").glob("*/*"))[::4]
    expected = spectral_slope(np.asarray(Image.open(path).convert("RGB")) for path in photographs)
    found = spectral_slope(render("validation", index) for index in range(60))
    assert -3.0 < expected < -2.2
    assert found == pytest.approx(expected, abs=0.4)


def test_images_use_the_range_of_photographs() -> None:
    images = np.stack([render("validation", index) for index in range(40)]).astype(np.float64)
    assert 70 < images.mean() < 150
    assert 40 < images.std() < 90
    assert np.abs(images[..., 0] - images[..., 1]).mean() > 10  # colored
