"""Test checks against PyTorch: a figure fails if its whole interval lies beyond the limit, else it is undecided."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.tasks import Comparison
from cloformer_deploy.tasks.statistics import paired_difference_ci95_pp
from cloformer_deploy.validation.checks import Check, Outcome, against_pytorch, at_least, at_most, moved
from tests.tasks.comparing import TASK, classes_as_logits, evidence
from tests.validation.compared_cases import case

LIMITS = {"agreement": 0.97, "sqnr_db": 15.0, "drop_pp": 1.0}


def checked(found: Comparison, reference_non_finite: int = 0) -> dict[str, Check]:
    return {check.name: check for check in against_pytorch(found, LIMITS, "top-1", reference_non_finite)}


# A figure, its interval and its limit

figures = st.floats(-100, 100).map(lambda value: round(value, 6))


@given(figures, st.floats(0, 50), st.floats(0, 50), figures, st.integers(1, 10**6))
def test_outcomes_follow_from_the_figure_and_its_interval(
    value: float, below: float, above: float, limit: float, n: int
) -> None:
    interval = (value - below, value + above)
    least = at_least("agreement", value, limit, interval, n, "")
    most = at_most("drop_pp", value, limit, interval, n, "")
    assert least.outcome == ("passed" if value >= limit else "failed" if interval[1] < limit else "undecided")
    assert most.outcome == ("passed" if value <= limit else "failed" if interval[0] > limit else "undecided")
    for check in (least, most):
        assert (check.value, check.limit, check.ci95) == (value, limit, interval)
        assert (check.images_needed is not None) == (check.outcome == "undecided")
        assert check.images_needed is None or check.images_needed > n
    mirrored = at_most("drop_pp", -value, -limit, (-interval[1], -interval[0]), n, "")
    assert (mirrored.outcome, mirrored.images_needed) == (least.outcome, least.images_needed)


@pytest.mark.parametrize(("drop_pp", "words"), [(0, "is"), (0.125, "is 0.12 pp below"), (-2, "is 2.00 pp above")])
def test_a_drop_in_words(drop_pp: float, words: str) -> None:
    assert moved(drop_pp) == words


# Artifacts against PyTorch


@pytest.mark.parametrize(
    ("n", "lost", "outcome"),
    [
        (1000, 0, "passed"),
        (1000, 9, "passed"),
        (1000, 14, "undecided"),
        (1000, 60, "failed"),
        (4000, 48, "undecided"),
        (4000, 100, "failed"),
        (20, 1, "undecided"),
    ],
)
def test_drops(n: int, lost: int, outcome: Outcome) -> None:
    check = checked(case(n, lost=lost).comparison)["drop_pp"]
    assert check.outcome == outcome
    assert check.value is not None
    assert check.value == pytest.approx(100 * lost / n)
    assert check.ci95 is not None
    assert check.ci95[0] <= check.value <= check.ci95[1]
    assert (check.images_needed is not None) == (outcome == "undecided")
    assert f"{lost} lost, 0 gained of {n}" in check.text


def test_an_undecided_drop_is_decided_by_the_number_of_images_that_it_names() -> None:
    few = checked(case(1000, lost=16).comparison)["drop_pp"]
    assert few.outcome == "undecided"
    assert few.images_needed is not None
    assert 1000 < few.images_needed < 4000
    times = math.ceil(1.1 * few.images_needed / 1000)
    many = checked(case(1000 * times, lost=16 * times).comparison)["drop_pp"]
    assert many.outcome == "failed"


@pytest.mark.parametrize(("noise", "outcome"), [(0.02, "passed"), (0.2, "failed")])
def test_noise(noise: float, outcome: Outcome) -> None:
    assert checked(case(500, noise=noise).comparison)["sqnr_db"].outcome == outcome


def test_labels_are_not_needed() -> None:
    checks = checked(case(500, lost=50, labeled=False).comparison)
    assert checks.keys() == {"agreement", "sqnr_db"}
    assert checks["agreement"].outcome == "failed"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_image_of_a_thousand_with_nan_or_infinity_fails(value: float) -> None:
    check = checked(case(1000, broken=value).comparison)["finite"]
    assert check.outcome == "failed"
    assert "1 of 1000 images; the first is number 1000" in check.text


def test_an_artifact_without_a_finite_image_fails_in_two_checks() -> None:
    logits = classes_as_logits([0, 1, 2] * 20, 3)
    nan = np.full_like(logits, np.nan)
    found = TASK.compare(evidence(logits, logits), evidence(nan, logits), None)
    checks = checked(found)
    assert checks["agreement"].outcome == "failed"
    assert "sqnr_db" not in checks


def test_pytorch_s_own_nan_is_named_as_such() -> None:
    check = checked(case(100).comparison, 3)["finite"]
    assert check.outcome == "failed"
    assert "PyTorch itself" in check.text


def test_false_alarms_are_rare_at_the_limit() -> None:
    """A build whose true drop is the limit itself fails in at most 1 of 40 sets of images, on average."""
    rng = np.random.default_rng(5)
    some = case(10).comparison
    alarms = 0
    for _ in range(300):
        lost, gained = int(rng.binomial(1000, 0.02)), int(rng.binomial(1000, 0.01))
        interval = paired_difference_ci95_pp(lost, gained, 1000)
        drifted = dataclasses.replace(some, n=1000, drop_pp=(lost - gained) / 10, drop_ci95_pp=interval)
        alarms += checked(drifted)["drop_pp"].outcome == "failed"
    assert 1 <= alarms <= 15
