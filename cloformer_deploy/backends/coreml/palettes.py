"""Palettes: tables of the few values that weights are rounded to."""

import numpy as np
from numpy.typing import NDArray

_BINS = 64
_MOST_STEPS = 1000


def palette(weight: NDArray[np.float32], bits: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the 2^bits values of (locally) least squared error, and the index of each weight's. Nothing is random.

    k-means in one dimension: values are sorted, so a cluster is a stretch of them and its mean a difference of sums.
    It starts from where optimal values lie, as dense as the cube root of the weights' own density (Panter and Dite,
    "Quantization distortion in pulse-count modulation with nonuniform spacing of levels", 1951).

    Args:
        weight: of any shape.
        bits: 1 to 8.

    Returns:
        The values in ascending order (2^bits,), and the indices in the order of the flattened weights.
    """
    ascending = np.sort(weight, axis=None).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ascending)])
    values = _start(ascending, 2**bits)
    for _ in range(_MOST_STEPS):
        bounds = np.concatenate([[0], np.searchsorted(ascending, _middles(values)), [len(ascending)]])
        counts = np.diff(bounds)
        means = np.where(counts > 0, np.diff(sums[bounds]) / np.maximum(counts, 1), values)
        if np.array_equal(means, values):
            break
        values = means
    table = values.astype(weight.dtype)
    return table, np.searchsorted(_middles(table), weight.ravel()).astype(np.uint8)


def _start(ascending: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    density, edges = np.histogram(ascending, _BINS)
    share = np.concatenate([[0.0], np.cumsum(np.cbrt(density))])
    values: NDArray[np.float64] = np.interp((np.arange(count) + 0.5) / count * share[-1], share, edges)
    return values


def _middles(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return (values[1:] + values[:-1]) / 2
