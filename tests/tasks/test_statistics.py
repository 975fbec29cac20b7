"""Test the intervals against hand-computed values, published tables, and by simulation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cloformer_deploy.tasks.statistics import paired_difference_ci95_pp, share_ci95


# With z = 1.959964, p = (lost + 1) / (n + 2), q = (gained + 1) / (n + 2):
# p - q -+ z * sqrt((p + q - (p - q)**2) / (n + 2)), worked out by hand.
@pytest.mark.parametrize(
    ("n", "lost", "gained", "low", "high"),
    [
        (98, 0, 0, -2.771808, 2.771808),  # 1.959964 * sqrt(0.02 / 100)
        (98, 9, 3, -1.238613, 13.238613),  # 0.06 -+ 1.959964 * sqrt((0.14 - 0.0036) / 100)
        (998, 49, 29, 0.251343, 3.748657),  # 0.02 -+ 1.959964 * sqrt((0.08 - 0.0004) / 1000)
        (2, 2, 0, -34.868930, 100.0),  # 0.5 -+ 1.959964 * sqrt((1 - 0.25) / 4), clipped to the largest difference
    ],
)
def test_paired_interval_by_hand(n: int, lost: int, gained: int, low: float, high: float) -> None:
    assert paired_difference_ci95_pp(lost, gained, n) == pytest.approx((low, high), abs=2e-6)


counts = st.tuples(st.integers(1, 2000), st.integers(0, 2000), st.integers(0, 2000))


@given(counts)
def test_paired_interval_surrounds_the_adjusted_difference_and_mirrors(case: tuple[int, int, int]) -> None:
    n, lost, gained = case
    assume(lost + gained <= n)
    low, high = paired_difference_ci95_pp(lost, gained, n)
    assert -100 <= low < 100 * (lost - gained) / (n + 2) < high <= 100
    assert paired_difference_ci95_pp(gained, lost, n) == pytest.approx((-high, -low))
    # It holds the plain difference too, unless nearly all images changed sides.
    if lost + gained <= n // 2:
        assert low <= 100 * (lost - gained) / n <= high


@given(st.integers(2, 300), st.integers(0, 10), st.integers(0, 10), st.integers(2, 20))
def test_more_images_of_the_same_kind_narrow_the_interval(n: int, lost: int, gained: int, times: int) -> None:
    assume(lost + gained <= n)
    few, many = (paired_difference_ci95_pp(lost * k, gained * k, n * k) for k in (1, times))
    assert many[1] - many[0] < few[1] - few[0]


@pytest.mark.parametrize("n", [200, 392, 1000])
@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.02), (0.03, 0.01), (0.05, 0.02), (0.15, 0.1), (0.3, 0.05)])
def test_paired_interval_covers_the_true_difference_95_times_in_100(n: int, lost: float, gained: float) -> None:
    drawn: Any = np.random.default_rng(7).multinomial(n, [lost, gained, 1 - lost - gained], size=4000)
    outcomes, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    covered = 0
    for (was_lost, was_gained), count in zip(outcomes.tolist(), times.tolist(), strict=True):
        low, high = paired_difference_ci95_pp(was_lost, was_gained, n)
        covered += count * (low <= 100 * (lost - gained) <= high)
    assert 0.935 <= covered / 4000 <= 0.99


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    # Clopper and Pearson's, as in any table of exact binomial intervals.
    [(10, 10, 0.6915, 1.0), (0, 10, 0.0, 0.3085), (95, 100, 0.8872, 0.9836), (1000, 1000, 0.9963, 1.0)],
)
def test_interval_of_a_share_is_exact(count: int, n: int, low: float, high: float) -> None:
    assert share_ci95(count, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_interval_of_a_share_holds_the_share_and_mirrors(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    low, high = share_ci95(count, n)
    assert 0 <= low <= count / n <= high <= 1
    assert low < high
    assert share_ci95(n - count, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)
