"""Intervals of shares and of paired differences."""

import math
from statistics import NormalDist

from cloformer_deploy.tasks.base import Interval

Z95 = NormalDist().inv_cdf(0.975)


def share_ci95(count: int, n: int) -> Interval:
    """Return the exact interval of a share (Clopper and Pearson 1934), 0..1."""
    from scipy.stats import binomtest

    found = binomtest(count, n).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


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
