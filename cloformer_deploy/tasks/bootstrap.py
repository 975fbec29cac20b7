"""Intervals of any figure by a bootstrap over images, seeded."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.tasks.base import Interval

RESAMPLES = 2000
_BATCH = 1000
Counts = NDArray[np.float64]


def share_ci95(part: Counts, whole: Counts) -> Interval:
    """Return the interval of sum(part) / sum(whole), 0..1: a bootstrap over images."""
    return bootstrap_ci95(lambda weights: (weights @ part) / (weights @ whole), len(whole), (0.0, 1.0))


def share_drop_ci95_pp(before: Counts, after: Counts, whole: Counts) -> Interval:
    """Return the interval of the fall of a share, percentage points: a paired bootstrap over images."""
    return bootstrap_ci95(
        lambda weights: 100 * (weights @ (before - after)) / (weights @ whole), len(whole), (-100.0, 100.0)
    )


def bootstrap_ci95(figures: Callable[[Counts], Counts], n: int, unknown: Interval) -> Interval:
    """Return the expanded percentile interval of a figure over resampled images, seeded.

    Percentiles are taken further out by what few images make a percentile interval too narrow (T. Hesterberg, "What
    Teachers Should Know About the Bootstrap", Am. Stat. 69, 2015, section 5.3).

    Args:
        figures: returns the figure of each resample, from how often each image is in it, (resamples, n).
        n: images.
        unknown: the interval of a single image, which tells nothing.
    """
    if n < 2:
        return unknown
    tail = expanded_tail(n)
    low, high = np.nanquantile(resampled(figures, n), [tail, 1 - tail])
    return float(low), float(high)


def resampled(figures: Callable[[Counts], Counts], n: int) -> Counts:
    """Return a figure of `RESAMPLES` resamples of n images; see `bootstrap_ci95`."""
    random = np.random.default_rng(0)
    drawn = [
        figures(random.multinomial(n, np.full(n, 1 / n), size=_BATCH).astype(np.float64))
        for _ in range(RESAMPLES // _BATCH)
    ]
    return np.concatenate(drawn)


def expanded_tail(n: int) -> float:
    """Return the share of resamples beyond either end of a 95 % interval; see `bootstrap_ci95`."""
    from scipy.stats import norm, t

    return float(norm.cdf(math.sqrt(n / (n - 1)) * t.ppf(0.025, n - 1)))
