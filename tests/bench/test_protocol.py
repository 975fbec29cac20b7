"""Statistics of the times, speedups and their intervals, marks of throttling and noise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloformer_deploy.bench.protocol import figures, noisy, speedup, throttled

TIMES = st.lists(st.floats(0.01, 1000), min_size=1, max_size=300)


@given(TIMES)
def test_figures_are_in_order(times: list[float]) -> None:
    found = figures(times)
    assert found.n == len(times)
    assert found.min_ms is not None
    assert found.p50_ms is not None
    assert found.p90_ms is not None
    assert found.min_ms <= found.p50_ms <= found.p90_ms <= max(times)
    assert found.min_ms <= found.mean_ms * (1 + 1e-12)
    assert (found.p99_ms is None) == (len(times) < 100)
    assert (found.std_ms is None) == (len(times) == 1)


@settings(deadline=None)  # the first imports scipy
@given(TIMES, st.floats(0.2, 5))
def test_a_common_disturbance_leaves_the_ratio(times: list[float], factor: float) -> None:
    ratio, interval = speedup(times, [factor * value for value in times])
    assert ratio == pytest.approx(factor)
    if interval is not None:
        assert interval == pytest.approx((factor, factor))


def test_interval_needs_six_rounds() -> None:
    # Of five rounds all lie on one side of the median with probability 2 / 32, which is more than 5 %.
    assert speedup([1.0] * 5, [1.1] * 5)[1] is None
    assert speedup([1.0] * 6, [1.1] * 6)[1] == pytest.approx((1.1, 1.1))


def test_interval_holds_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        # The ratio's median is 1.5: a log-normal disturbance has its median at 1.
        fast = rng.lognormal(0, 0.1, 30)
        interval = speedup(fast.tolist(), (1.5 * rng.lognormal(0, 0.1, 30)).tolist())[1]
        assert interval is not None
        held += interval[0] <= 1.5 <= interval[1]
    # Of at least 95 % (here, by order statistics, 95.7 %), with 1,000 trials.
    assert 0.94 <= held / 1000 <= 0.975


@pytest.mark.parametrize(
    ("rounds", "before", "after", "expected"),
    [
        ([10.0] * 8, None, None, False),
        ([10.0] * 4 + [11.5] * 4, None, None, True),
        ([11.5] * 4 + [10.0] * 4, None, None, False),
        ([10.0] * 8, 2000.0, 1700.0, True),
        ([10.0] * 8, 2000.0, 1900.0, False),
        ([10.0], None, None, None),
        ([10.0], 2000.0, 1000.0, True),
    ],
)
def test_throttled(rounds: list[float], before: float | None, after: float | None, expected: bool | None) -> None:
    assert throttled(rounds, before, after) is expected


def test_noisy() -> None:
    assert noisy([10.0, 10.1, 10.0]) is None
    assert noisy([10.0, 10.1, 10.0, 10.2] * 5) is False
    assert noisy([10.0, 14.0] * 10) is True
    # A few outliers are what a system does.
    assert noisy([10.0] * 18 + [50.0] * 2) is False


def test_figures_of_one_run() -> None:
    found = figures([2.0])
    assert (found.mean_ms, found.p50_ms, found.p90_ms) == (2.0, 2.0, 2.0)
    assert math.isfinite(found.mean_ms)
