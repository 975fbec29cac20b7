"""Numerical distances between an artifact's outputs and PyTorch's: SQNR, largest difference, cosine.

Of outputs that are marked `centered` (logits) the signal is what is left after each image's mean was subtracted: a
large mean would hide errors of the rest. The noise is the whole difference, so that a constant added to all logits,
which changes no prediction of a softmax, still shows. A single logit is its own signal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.tasks.base import Interval, Output, Outputs

SQNR_CEILING_DB = 200.0
"""Reported where all values are equal to the last bit (infinity is no JSON number)."""
_RESAMPLES = 2000
_FIELDS = ("signal", "noise", "max_abs_diff", "cosine", "finite")


def named_outputs(value: Any, specs: Sequence[Output]) -> Outputs:
    """Return what a PyTorch model returned, one tensor or several in the order of `specs`, as arrays by name."""
    tensors = value if isinstance(value, (tuple, list)) else (value,)
    return {spec.name: tensor.detach().numpy() for spec, tensor in zip(specs, tensors, strict=True)}


def sqnr_db(signal: float, noise: float) -> float:
    """Return the ratio of two energies in dB, within plus and minus `SQNR_CEILING_DB`; the floor where one is NaN."""
    if not math.isfinite(noise) or not math.isfinite(signal):
        return -SQNR_CEILING_DB
    if noise == 0:
        return SQNR_CEILING_DB
    if signal == 0:
        return -SQNR_CEILING_DB
    # Logarithms are subtracted, because the quotient of two floats may underflow to 0.
    ratio = 10 * (math.log10(signal) - math.log10(noise))
    return max(min(ratio, SQNR_CEILING_DB), -SQNR_CEILING_DB)


def centered(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return values (B, C, ...) less each image's mean over the second axis, float64."""
    wide = values.astype(np.float64)
    return np.asarray(wide - wide.mean(axis=1, keepdims=True), np.float64)


def compared(outputs: Outputs, specs: Sequence[Output]) -> NDArray[np.float64]:
    """Return the values that signal and cosine are measured on, (B, values), float64: all outputs side by side."""
    parts = [
        centered(outputs[spec.name])
        if spec.centered and outputs[spec.name].shape[1] > 1
        else outputs[spec.name].astype(np.float64)
        for spec in specs
    ]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def finite_images(outputs: Outputs, specs: Sequence[Output]) -> NDArray[np.bool_]:
    """Tell for each image whether all its output values are finite; (B,)."""
    parts = [np.isfinite(outputs[spec.name]).reshape(len(outputs[spec.name]), -1).all(axis=1) for spec in specs]
    return np.asarray(np.logical_and.reduce(parts), np.bool_)


def image_distances(expected: Outputs, found: Outputs, specs: Sequence[Output]) -> list[bytes]:
    """Return the distances of each image in few bytes; `summarize` reads them.

    Images with NaN or infinity on either side have no distances and are counted.
    """
    finite = finite_images(expected, specs) & finite_images(found, specs)
    rows = np.zeros((len(finite), len(_FIELDS)))
    rows[:, 4] = finite_images(found, specs)
    if finite.any():
        signal, other = (
            compared({name: values[finite] for name, values in side.items()}, specs) for side in (expected, found)
        )
        raw = [np.abs(expected[spec.name][finite].astype(np.float64) - found[spec.name][finite]) for spec in specs]
        rows[finite, 0] = (signal**2).sum(axis=1)
        rows[finite, 1] = np.sum([(part**2).reshape(len(part), -1).sum(axis=1) for part in raw], axis=0)
        rows[finite, 2] = np.max([part.reshape(len(part), -1).max(axis=1) for part in raw], axis=0)
        rows[finite, 3] = _cosines(signal, other)
    rows[~finite, 3] = np.nan
    return [row.tobytes() for row in rows]


def _cosines(signal: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(signal, axis=1) * np.linalg.norm(found, axis=1)
    # A constant output has no direction: 1 where both are constant (a single class), else 0.
    both_constant = ~signal.any(axis=1) & ~found.any(axis=1)
    products = (signal * found).sum(axis=1)
    return np.where(norms > 0, products / np.where(norms > 0, norms, 1.0), both_constant.astype(np.float64))


@dataclass(frozen=True)
class DistanceFigures:
    """Distances over all images; see `Comparison` for the fields."""

    non_finite: int
    first_non_finite: int | None
    max_abs_diff: float | None = None
    sqnr_db: float | None = None
    sqnr_ci95_db: Interval | None = None
    cosine_min: float | None = None


def summarize(distances: Sequence[bytes], *, interval: bool = True) -> DistanceFigures:
    """Summarize the distances of all images, in order.

    Args:
        distances: of each image, from `image_distances`.
        interval: compute the interval of the SQNR, for which SciPy's statistics take more than a second to import.
    """
    rows = np.stack([np.frombuffer(row) for row in distances])
    broken = np.flatnonzero(rows[:, 4] == 0)
    first = int(broken[0]) if broken.size else None
    measured = rows[~np.isnan(rows[:, 3])]
    if not len(measured):
        return DistanceFigures(int(broken.size), first)
    return DistanceFigures(
        non_finite=int(broken.size),
        first_non_finite=first,
        max_abs_diff=float(measured[:, 2].max()),
        sqnr_db=sqnr_db(float(measured[:, 0].sum()), float(measured[:, 1].sum())),
        sqnr_ci95_db=_sqnr_ci95_db(measured[:, 0], measured[:, 1]) if interval else None,
        cosine_min=float(measured[:, 3].min()),
    )


def _sqnr_ci95_db(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> Interval:
    """Return the interval of the SQNR over resampled images (percentile bootstrap, seeded), dB."""
    from scipy.stats import bootstrap

    if len(signal) < 2 or not noise.any() or not signal.any():
        same = sqnr_db(float(signal.sum()), float(noise.sum()))
        return same, same

    def resampled(s: NDArray[np.float64], n: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        with np.errstate(divide="ignore"):
            found: NDArray[np.float64] = 10 * np.log10(s.sum(axis=axis) / n.sum(axis=axis))
        return np.clip(found, -SQNR_CEILING_DB, SQNR_CEILING_DB)

    found = bootstrap(
        (signal, noise), resampled, n_resamples=_RESAMPLES, paired=True, method="percentile", batch=100, rng=0
    ).confidence_interval
    return float(found.low), float(found.high)
