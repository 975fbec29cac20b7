"""Axes contain the values that they show, with a few round ticks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.report.html.axes import spanning


@pytest.mark.parametrize(
    ("values", "most", "ticks"),
    [
        ([0, 18.4], math.inf, ["0", "5", "10", "15", "20"]),
        ([97.6, 100], 100, ["97.5", "98.0", "98.5", "99.0", "99.5", "100.0"]),
        ([-0.28, 0.28], math.inf, ["-0.4", "-0.2", "0.0", "0.2", "0.4"]),
        ([0, 1200], math.inf, ["0", "250", "500", "750", "1,000", "1,250"]),
        ([], math.inf, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_ticks(values: list[float], most: float, ticks: list[str]) -> None:
    axis = spanning(values, most)
    assert [axis.label(tick) for tick in axis.ticks] == ticks


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.booleans())
def test_everything_lies_on_the_axis(values: list[float], share: bool) -> None:
    values = [abs(value) / 1e4 for value in values] if share else values
    axis = spanning(values, 100.0 if share else math.inf)
    low, high = axis.ticks[0], axis.ticks[-1]
    slack = 1e-6 * (high - low)
    assert low - slack <= min(values) <= max(values) <= high + slack
    assert 2 <= len(axis.ticks) <= 8
    assert high <= 100 or not share
    assert [axis.at(tick) for tick in axis.ticks] == sorted(axis.at(tick) for tick in axis.ticks)
    assert (axis.at(low), axis.at(high)) == (0, 100)


@pytest.mark.parametrize(
    ("outlier", "held"), [((1.0, 1.4), True), ((-1.4, -1.0), True), ((1.0, 90.0), False), ((-90.0, -80.0), False)]
)
def test_what_is_far_off_does_not_press_the_rest_together(outlier: tuple[float, float], held: bool) -> None:
    axis = spanning([-0.2, 0.2], outliers=[outlier])
    assert (axis.beyond(outlier[0]) == axis.beyond(outlier[1]) == 0) is held
    assert axis.beyond(0.0) == 0
    if not held:
        assert axis.ticks == spanning([-0.2, 0.2]).ticks


def test_outliers_alone_have_an_axis() -> None:
    assert spanning([], outliers=[(80.0, 90.0)]).beyond(85.0) == 0
