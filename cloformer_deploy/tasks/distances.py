"""Numerical distances between an artifact's outputs and PyTorch's: SQNR, largest difference, cosine.

Of outputs that are marked `centered` (logits) the signal is what is left after each image's mean was subtracted: a
large mean would hide errors of the rest. The noise is the whole difference, so that a constant added to all logits,
which changes no prediction of a softmax, still shows. A single logit is its own signal. The SQNR of several outputs is
that of the worst, and so is the cosine: one with large values must not hide the others.
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
_FIELDS = ("max_abs_diff", "cosine", "finite")
"""Distances of an image over all outputs; the energies of signal and noise of each output follow."""
_LARGEST, _COSINE, _FINITE = range(len(_FIELDS))


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


def measured(values: NDArray[np.floating], spec: Output) -> NDArray[np.float64]:
    """Return the values of an output that signal and cosine are measured on, (B, values), float64."""
    kept = centered(values) if spec.centered and values.shape[1] > 1 else values.astype(np.float64)
    return kept.reshape(len(kept), -1)


def compared(outputs: Outputs, specs: Sequence[Output]) -> NDArray[np.float64]:
    """Return `measured` of all outputs side by side."""
    return np.concatenate([measured(outputs[spec.name], spec) for spec in specs], axis=1)


def finite_images(outputs: Outputs, specs: Sequence[Output]) -> NDArray[np.bool_]:
    """Tell for each image whether all its output values are finite; (B,)."""
    parts = [np.isfinite(outputs[spec.name]).reshape(len(outputs[spec.name]), -1).all(axis=1) for spec in specs]
    return np.asarray(np.logical_and.reduce(parts), np.bool_)


def distance_bytes(specs: Sequence[Output]) -> int:
    """Return the length of one image's distances."""
    return 8 * (len(_FIELDS) + 2 * len(specs))


def image_distances(expected: Outputs, found: Outputs, specs: Sequence[Output]) -> list[bytes]:
    """Return the distances of each image in few bytes (`distance_bytes`); `summarize` reads them.

    Images with NaN or infinity on either side have no distances and are counted.
    """
    finite = finite_images(expected, specs) & finite_images(found, specs)
    rows = np.zeros((len(finite), len(_FIELDS) + 2 * len(specs)))
    rows[:, _FINITE] = finite_images(found, specs)
    rows[:, _COSINE] = np.where(finite, 1.0, np.nan)
    for place, spec in enumerate(specs if finite.any() else ()):
        ours, theirs = expected[spec.name][finite], found[spec.name][finite]
        signal, other = measured(ours, spec), measured(theirs, spec)
        raw = np.abs(ours.astype(np.float64) - theirs).reshape(len(ours), -1)
        first = len(_FIELDS) + 2 * place
        rows[finite, first] = (signal**2).sum(axis=1)
        rows[finite, first + 1] = (raw**2).sum(axis=1)
        rows[finite, _LARGEST] = np.maximum(rows[finite, _LARGEST], raw.max(axis=1, initial=0.0))
        rows[finite, _COSINE] = np.minimum(rows[finite, _COSINE], _cosines(signal, other))
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
    broken = np.flatnonzero(rows[:, _FINITE] == 0)
    first = int(broken[0]) if broken.size else None
    kept = rows[~np.isnan(rows[:, _COSINE])]
    if not len(kept):
        return DistanceFigures(int(broken.size), first)
    pairs = [(kept[:, place], kept[:, place + 1]) for place in range(len(_FIELDS), kept.shape[1], 2)]
    ratios = [sqnr_db(float(signal.sum()), float(noise.sum())) for signal, noise in pairs]
    worst = pairs[int(np.argmin(ratios))]
    return DistanceFigures(
        non_finite=int(broken.size),
        first_non_finite=first,
        max_abs_diff=float(kept[:, _LARGEST].max()),
        sqnr_db=min(ratios),
        sqnr_ci95_db=_sqnr_ci95_db(*worst) if interval else None,
        cosine_min=float(kept[:, _COSINE].min()),
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
