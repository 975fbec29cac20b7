"""A check fails if its whole interval lies beyond the limit, and says how many images it lacks if it cannot tell."""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from cloformer_deploy.gate.baseline import Accepted, Baseline, pack
from cloformer_deploy.gate.checks import Check, Outcome, against_baseline, against_pytorch
from cloformer_deploy.gate.config import Limits
from cloformer_deploy.validation.paired import Paired

LIMITS = Limits(top1_agreement=0.97, sqnr_db=15.0, top1_drop_pp=1.0)
NAMES = tuple(f"{index:016x}" for index in range(4000))
CLASSES = 10


def compared(n: int, *, lost: int = 0, gained: int = 0, noise: float = 0.02, labeled: bool = True) -> Paired:
    """So many images; PyTorch is right on all but the last `gained`."""
    rng = np.random.default_rng(n)
    labels = rng.integers(0, CLASSES, n)
    expected = np.eye(CLASSES, dtype=np.float32)[labels]
    wrong = np.eye(CLASSES, dtype=np.float32)[(labels + 1) % CLASSES]
    found = expected.copy()
    found[:lost] = wrong[:lost]
    if gained:
        expected[-gained:] = wrong[-gained:]
    found = found + noise * rng.standard_normal(found.shape).astype(np.float32)
    drift = Paired()
    drift.update(expected, found, labels if labeled else None)
    return drift


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def accepted(drift: Paired, size: int = 1000, operators: int = 100) -> Baseline:
    one = Accepted(
        format="onnx",
        precision="int8",
        target="cpu",
        sha256="a" * 64,
        bytes=size,
        operators=operators,
        sqnr_ci95_db=drift.sqnr_ci95_db(),
        agrees=pack(drift.agrees),
        right=pack(drift.right) if drift.right else None,
    )
    return Baseline(tool_version="0", weights_sha256="b" * 64, images=NAMES[: drift.n], artifacts=(one,))


def against(
    drift: Paired, before: Baseline, size: int = 1000, operators: int = 100, first: int = 0
) -> dict[str, Check]:
    places = {name: index for index, name in enumerate(NAMES[first : first + drift.n])}
    return by_name(against_baseline(drift, size, operators, LIMITS, before, before.artifacts[0], places))


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
    check = by_name(against_pytorch(compared(n, lost=lost), LIMITS, 0))["top1_drop_pp"]
    assert check.outcome == outcome
    assert check.value is not None
    assert check.value == pytest.approx(100 * lost / n)
    assert check.ci95 is not None
    assert check.ci95[0] <= check.value <= check.ci95[1]
    assert (check.images_needed is not None) == (outcome == "undecided")


def test_an_undecided_drop_is_decided_by_as_many_images_as_it_asks_for() -> None:
    few = by_name(against_pytorch(compared(1000, lost=16), LIMITS, 0))["top1_drop_pp"]
    assert few.outcome == "undecided"
    assert few.images_needed is not None
    assert 1000 < few.images_needed < 4000
    times = math.ceil(1.1 * few.images_needed / 1000)
    many = by_name(against_pytorch(compared(1000 * times, lost=16 * times), LIMITS, 0))["top1_drop_pp"]
    assert many.outcome == "failed"


@pytest.mark.parametrize(("noise", "outcome"), [(0.02, "passed"), (0.2, "failed")])
def test_noise(noise: float, outcome: Outcome) -> None:
    assert by_name(against_pytorch(compared(500, noise=noise), LIMITS, 0))["sqnr_db"].outcome == outcome


def test_labels_are_not_needed() -> None:
    checks = by_name(against_pytorch(compared(500, lost=50, labeled=False), LIMITS, 0))
    assert checks.keys() == {"top1_agreement", "sqnr_db"}
    assert checks["top1_agreement"].outcome == "failed"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_image_of_a_thousand_without_a_number_fails(value: float) -> None:
    drift = compared(999)
    logits: NDArray[np.float32] = np.eye(CLASSES, dtype=np.float32)[:1]
    broken = logits.copy()
    broken[0, 3] = value
    drift.update(logits, broken, np.array([0]))
    check = by_name(against_pytorch(drift, LIMITS, 0))["finite"]
    assert check.outcome == "failed"
    assert "1 of 1000 images; the first is number 1000" in check.text


def test_pytorch_s_own_nan_is_not_the_file_s_fault() -> None:
    check = by_name(against_pytorch(compared(100), LIMITS, 3))["finite"]
    assert "PyTorch itself" in check.text


def test_the_same_build_passes() -> None:
    drift = compared(1000, lost=5)
    assert {check.outcome for check in against(drift, accepted(drift)).values()} == {"passed"}


@pytest.mark.parametrize("labeled", [True, False])
def test_a_regression_fails_although_pytorch_allows_it(labeled: bool) -> None:
    before, after = compared(4000, labeled=labeled), compared(4000, lost=38, labeled=labeled)
    assert "failed" not in {check.outcome for check in against_pytorch(after, LIMITS, 0)}
    check = against(after, accepted(before))["regression_pp"]
    assert check.outcome == "failed"
    assert ("top-1" if labeled else "agreement") in check.text
    assert "38 lost, 0 gained of 4000" in check.text


def test_being_much_better_is_suspicious() -> None:
    before, after = compared(4000, lost=200, noise=0.08), compared(4000)
    checks = against(after, accepted(before, size=2000, operators=200))
    assert {check.outcome for check in checks.values()} == {"suspicious"}
    assert checks.keys() == {"regression_pp", "regression_db", "growth", "operators_growth"}


def test_a_noisier_build_fails_though_no_class_changed() -> None:
    before, after = compared(1000, noise=0.01), compared(1000, noise=0.02)
    checks = against(after, accepted(before))
    assert checks["regression_pp"].outcome == "passed"
    assert checks["regression_db"].outcome == "failed"
    assert checks["regression_db"].value == pytest.approx(6.0, abs=0.2)


@pytest.mark.parametrize(
    ("size", "operators", "outcomes"), [(1060, 100, ("failed", "passed")), (1000, 103, ("passed", "failed"))]
)
def test_growth(size: int, operators: int, outcomes: tuple[Outcome, Outcome]) -> None:
    drift = compared(100)
    checks = against(drift, accepted(drift), size, operators)
    assert (checks["growth"].outcome, checks["operators_growth"].outcome) == outcomes


def test_only_images_in_common_are_paired() -> None:
    before, after = compared(1000), compared(1000, lost=100)
    half = against(after, accepted(before), first=500)["regression_pp"]
    assert "of 500 images in common" in half.text
    assert "100 lost" in half.text
    none = against(after, accepted(before), first=1000)["regression_pp"]
    assert none.outcome == "undecided"
    assert "other images" in none.text


def test_false_alarms_are_rare_where_a_build_is_as_bad_as_it_may_be() -> None:
    """A build whose true drop is the limit itself is called a regression in at most 1 of 40, on average."""
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(300):
        lost, gained = rng.binomial(1000, 0.02), rng.binomial(1000, 0.01)
        drift = dataclasses.replace(compared(10), labeled=1000, lost=int(lost), gained=int(gained), n=1000)
        check = by_name(against_pytorch(drift, LIMITS, 0))["top1_drop_pp"]
        alarms += check.outcome == "failed"
    assert 1 <= alarms <= 15
