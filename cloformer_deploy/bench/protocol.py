"""The measurement protocol: how long to measure, and the statistics of the times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

P99_FROM = 100
"""Least number of runs that have a 99th percentile."""
THROTTLED = 1.10
"""Ratio from which on a slower second half, or a lower frequency, counts as throttling."""
NOISY = 1.10
"""Ratio of the upper to the lower quartile of the rounds' medians from which on a measurement is noisy."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Protocol:
    """The length of a measurement: warm-up, then counted runs, each until a number and a time are both reached.

    The default follows TFLite's benchmark_model, with twice its runs and five times its seconds, so that there is a
    99th percentile. `MLPERF` follows MLPerf's single stream scenario (Inference rules: 1,024 queries and 60 s).
    """

    warmup_runs: int = 10
    warmup_s: float = 1.0
    runs: int = 100
    seconds: float = 5.0


MLPERF = Protocol(runs=1024, seconds=60.0)


@dataclass(frozen=True)
class Figures:
    """Statistics of the counted runs, in milliseconds; None where the measuring tool does not give one."""

    n: int
    mean_ms: float
    std_ms: float | None
    min_ms: float | None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None


def figures(times_ms: Sequence[float]) -> Figures:
    """Return the statistics of single runs."""
    times = np.asarray(times_ms)
    p50, p90, p99 = np.percentile(times, (50, 90, 99))
    return Figures(
        n=len(times),
        mean_ms=float(times.mean()),
        std_ms=float(times.std(ddof=1)) if len(times) > 1 else None,
        min_ms=float(times.min()),
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99) if len(times) >= P99_FROM else None,
    )


def speedup(rounds_ms: Sequence[float], baseline_ms: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return the speedup over a baseline and its 95 % interval.

    The speedup is the median, over rounds in which both ran, of the baseline's time divided by the other's. A
    disturbance that slows the machine for a while slows both in that round. The interval is by order statistics
    (Conover, Practical Nonparametric Statistics, 3.2), which assumes only that the rounds are independent and alike.
    There is none below six rounds.
    """
    from scipy import stats

    ratios = np.sort(np.asarray(baseline_ms) / np.asarray(rounds_ms))
    n = len(ratios)
    # The interval from the k-th smallest to the k-th largest misses the median with twice P(Binomial(n, 1/2) < k).
    k = int(stats.binom.ppf((1 - CONFIDENCE) / 2, n, 0.5))
    interval = (float(ratios[k - 1]), float(ratios[n - k])) if k >= 1 else None
    return float(np.median(ratios)), interval


def throttled(rounds_ms: Sequence[float], before_mhz: float | None, after_mhz: float | None) -> bool | None:
    """Tell whether a device slowed down; None with fewer than two rounds and no frequencies."""
    slower = [before_mhz > THROTTLED * after_mhz] if before_mhz is not None and after_mhz is not None else []
    if len(rounds_ms) > 1:
        half = len(rounds_ms) // 2
        slower.append(bool(np.median(rounds_ms[half:]) > THROTTLED * np.median(rounds_ms[:half])))
    return any(slower) if slower else None


def noisy(rounds_ms: Sequence[float]) -> bool | None:
    """Tell whether the middle half of the rounds spreads too far; None with fewer than four rounds."""
    if len(rounds_ms) < 4:
        return None
    low, high = np.percentile(rounds_ms, (25, 75))
    return bool(high > NOISY * low)
