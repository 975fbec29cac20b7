"""Histograms count exactly, and ranges are the quantiles that they should be."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.errors import ToolError
from cloformer_deploy.quantization.observers import BINS, SMALLEST_SCALE, Histogram, Range, observe, percentile
from tests.quantization.small_models import Traced, noise

pytestmark = pytest.mark.integration

FLOATS = st.floats(-1e6, 1e6, width=32).map(lambda value: value if abs(value) > 1e-30 else 0.0)
VALUES = st.lists(FLOATS, min_size=1, max_size=40)


def histogram(*batches: Tensor) -> Histogram:
    seen = Histogram()
    for batch in batches:
        seen.add(batch)
    return seen


def expected_counts(values: NDArray[np.float32], reach: float) -> NDArray[np.float64]:
    numbers = np.floor(values.astype(np.float64) / reach * (BINS // 2)) + BINS // 2
    return np.bincount(numbers.astype(np.int64), minlength=BINS).astype(np.float64)


@settings(max_examples=30, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=5))
def test_counts_are_exact_however_values_are_cut_and_ordered(batches: list[list[float]]) -> None:
    values = np.concatenate([np.asarray(batch, np.float32) for batch in batches])
    seen = histogram(*(torch.tensor(batch) for batch in batches))
    assert (seen.low, seen.high) == (min(0, values.min()), max(0, values.max()))
    if not values.any():
        assert (seen.reach, seen.counts.sum(), seen.counts[BINS // 2]) == (0, len(values), len(values))
        return
    assert math.frexp(seen.reach)[0] == 0.5  # a power of 2
    assert seen.reach / 2 <= np.abs(values).max() < seen.reach
    np.testing.assert_array_equal(seen.counts, expected_counts(values, seen.reach))
    # The largest last, the largest first, and all at once.
    for order in (np.argsort(np.abs(values)), np.argsort(-np.abs(values))):
        one_by_one = histogram(*(torch.tensor([values[index]]) for index in order))
        np.testing.assert_array_equal(one_by_one.counts, seen.counts)
    np.testing.assert_array_equal(histogram(torch.from_numpy(values)).counts, seen.counts)
    merged = Histogram()
    for batch in batches:
        merged.merge(histogram(torch.tensor(batch)))
    assert (merged.low, merged.high, merged.reach) == (seen.low, seen.high, seen.reach)
    np.testing.assert_array_equal(merged.counts, seen.counts)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 20), st.floats(-3, 3))
def test_percentile_is_a_quantile_to_within_a_bin(seed: int, deviation: float, mean: float) -> None:
    values = np.random.default_rng(seed).normal(mean, deviation, 20_000).astype(np.float32)
    seen = histogram(torch.from_numpy(values))
    kept = percentile(seen, share=1e-2)
    low, high = np.quantile(values, 0.005, method="higher"), np.quantile(values, 0.995, method="lower")
    width = 2 * seen.reach / BINS
    assert kept.low == pytest.approx(min(low, 0), abs=1.001 * width)
    assert kept.high == pytest.approx(max(high, 0), abs=1.001 * width)
    assert kept.low >= seen.low
    assert kept.high <= seen.high


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
def test_the_share_clipped_is_numpys_to_within_a_bin(seed: int, low: float, high: float) -> None:
    values = np.random.default_rng(seed).normal(0, 1, 5_000).astype(np.float32)
    seen = histogram(torch.from_numpy(values))
    kept = Range(3 * low * seen.low, 3 * high * seen.high)
    width = 2 * seen.reach / BINS
    least = np.mean((values < kept.low - width) | (values > kept.high + width))
    most = np.mean((values < kept.low + width) | (values > kept.high - width))
    assert least <= seen.clipped(kept) <= most


def test_few_outliers_are_clipped_and_many_are_not() -> None:
    values = torch.cat([torch.linspace(-0.9, 0.9, 1_000_000), torch.full((3,), 100.0)])
    seen = histogram(values)
    kept = percentile(seen)
    assert kept.high == pytest.approx(0.9, abs=0.1)
    assert seen.clipped(kept) == pytest.approx(3e-6, rel=1e-3)
    seen.add(torch.full((1000,), 100.0))
    assert percentile(seen).high == 100


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        Histogram().add(torch.tensor([0.0, value, 1.0]))


def test_a_tensor_that_is_not_finite_is_named(onnx_cpu: Traced) -> None:
    images = noise(0)
    images[1, 2, 3, 4] = math.inf
    with pytest.raises(ToolError) as caught:
        observe(onnx_cpu.module, ["conv2d_1"], [images])
    assert caught.value.message == "patch_embed.conv2.conv.0 gives NaN or infinity on a calibration image"


def test_a_tensor_that_is_always_zero_has_a_grid() -> None:
    seen = histogram(torch.zeros(7), torch.zeros(2, 2))
    assert percentile(seen) == percentile(Histogram()) == Range(0, 0)
    assert seen.clipped(Range(0, 0)) == Histogram().clipped(Range(0, 0)) == 0
    assert percentile(seen).grid(8) == (SMALLEST_SCALE, 0)


@settings(max_examples=80)
@given(st.floats(-1e6, -1e-20), st.floats(0, 1e6), st.sampled_from([8, 16]))
def test_zero_is_exactly_on_every_grid(low: float, high: float, bits: int) -> None:
    scale, zero_point = Range(low, high).grid(bits)
    assert 0 <= zero_point < 2**bits
    levels = (np.array([0, zero_point, 2**bits - 1]) - zero_point) * scale
    assert levels[1] == 0
    # The ends are shifted by half a step at most, so that 0 comes to lie on a level.
    assert levels[0] == pytest.approx(low, abs=0.51 * scale)
    assert levels[2] == pytest.approx(high, abs=0.51 * scale)


@pytest.mark.parametrize(("low", "high"), [(0.1, 1.0), (-2.0, -1.0), (math.nan, 1.0)])
def test_a_range_without_zero_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="does not contain 0"):
        Range(low, high)


def test_observed_are_the_named_tensors_over_all_batches(onnx_cpu: Traced) -> None:
    first, second = noise(1, 2), noise(2, 3)
    placeholder = next(node.name for node in onnx_cpu.module.graph.nodes if node.op == "placeholder")
    seen = observe(onnx_cpu.module, [placeholder, "conv2d"], [first, second])
    assert seen[placeholder].counts.sum() == first.numel() + second.numel()
    assert seen[placeholder].high == max(first.max(), second.max())
    assert set(seen) == {placeholder, "conv2d"}


def test_observed_is_the_same_on_any_number_of_cores(onnx_cpu: Traced) -> None:
    batches, threads = [noise(seed, 2) for seed in range(5)], torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = observe(onnx_cpu.module, ["conv2d", "conv2d_1"], batches)
        torch.set_num_threads(3)
        together = observe(onnx_cpu.module, ["conv2d", "conv2d_1"], batches)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    for name, seen in alone.items():
        np.testing.assert_array_equal(seen.counts, together[name].counts)
