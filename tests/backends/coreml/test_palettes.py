"""Palettes against what they must be: means of their clusters, and better than what is simpler."""

import numpy as np
import pytest

from cloformer_deploy.backends.coreml.palettes import palette

NORMAL = np.random.default_rng(0).normal(0, 0.1, (50, 40, 3)).astype(np.float32)


def error(weight: np.ndarray, table: np.ndarray) -> float:
    """Mean square distance to the nearest entry."""
    return float(np.mean(np.abs(weight.ravel()[:, None] - table).min(axis=1) ** 2))


@pytest.mark.parametrize("bits", [1, 4, 6, 8])
def test_every_weight_has_its_nearest_entry_which_is_a_mean(bits: int) -> None:
    table, indices = palette(NORMAL, bits)
    assert (table.shape, indices.shape) == ((2**bits,), (6000,))
    assert (table.dtype, indices.dtype) == (np.dtype(np.float32), np.dtype(np.uint8))
    flat = NORMAL.ravel()
    np.testing.assert_array_equal(np.abs(flat - table[indices]), np.abs(flat[:, None] - table).min(axis=1))
    for index in np.unique(indices):
        np.testing.assert_allclose(table[index], flat[indices == index].mean(dtype=np.float64), rtol=1e-5, atol=1e-7)


def test_two_entries_of_a_normal_distribution_are_where_theory_has_them() -> None:
    table, _ = palette(np.random.default_rng(0).normal(0, 1, 200_000).astype(np.float32), 1)
    np.testing.assert_allclose(table, [-np.sqrt(2 / np.pi), np.sqrt(2 / np.pi)], atol=0.01)


@pytest.mark.parametrize("bits", [6, 8])
def test_it_beats_even_and_equally_frequent_entries(bits: int) -> None:
    table, _ = palette(NORMAL, bits)
    even = np.linspace(NORMAL.min(), NORMAL.max(), 2**bits)
    frequent = np.quantile(NORMAL, (np.arange(2**bits) + 0.5) / 2**bits)
    assert error(NORMAL, table) < 0.6 * min(error(NORMAL, even), error(NORMAL, frequent))


@pytest.mark.parametrize("weight", [np.zeros(20, np.float32), np.array([1, 1, -2, 5, 5, 5] * 4, np.float32)])
def test_few_different_values_are_kept(weight: np.ndarray) -> None:
    table, indices = palette(weight, 6)
    np.testing.assert_allclose(table[indices], weight, atol=1e-6)
