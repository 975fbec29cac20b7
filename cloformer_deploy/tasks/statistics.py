"""Intervals of shares and of paired differences."""

import math
from collections.abc import Sequence
from statistics import NormalDist

from cloformer_deploy.tasks.base import Interval

Z95 = NormalDist().inv_cdf(0.975)


def share_ci95(count: int, n: int) -> Interval:
    """Return the exact interval of a share (Clopper and Pearson 1934), 0..1."""
    from scipy.stats import binomtest

    found = binomtest(count, n).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def mean_share_ci95(shares: Sequence[float]) -> Interval:
    """Return the interval of the mean of one share per image, 0..1 (Clopper and Pearson, for a count of any size).

    It is that of images that are right or wrong as a whole, which vary more than shares of the same mean: never too
    narrow, and with a width where all shares are 1.
    """
    from scipy.stats import beta

    n, count = len(shares), math.fsum(shares)
    low = float(beta.ppf(0.025, count, n - count + 1)) if count > 0 else 0.0
    high = float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0
    return low, high


def paired_difference_ci95_pp(lost: int, gained: int, n: int) -> Interval:
    """Return the interval of the paired difference of two shares, (lost - gained) / n, percentage points.

    The adjusted Wald interval of Bonett and Price, "Adjusted Wald Confidence Interval for a Difference of Binomial
    Proportions Based on Paired Data", J. Educ. Behav. Stat. 37 (2012): one pseudo-count in each discordant cell, so
    that no disagreement at all still leaves a width.
    """
    total = n + 2
    first, second = (lost + 1) / total, (gained + 1) / total
    difference = first - second
    half = Z95 * math.sqrt((first + second - difference**2) / total)
    return 100 * max(difference - half, -1.0), 100 * min(difference + half, 1.0)
