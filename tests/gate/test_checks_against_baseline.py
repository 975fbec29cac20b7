"""Test checks against the baseline: regressions fail, and figures that are far better are suspicious."""

from collections.abc import Sequence

import pytest

from cloformer_deploy.gate.baseline import Baseline, BaselineArtifact, pack
from cloformer_deploy.gate.checks import Current, Images, against_baseline
from cloformer_deploy.gate.config import Limits
from cloformer_deploy.validation.checks import Check, Outcome, against_pytorch
from tests.tasks.comparing import TASK
from tests.validation.compared_cases import Case, case

LIMITS = Limits(agreement=0.97, sqnr_db=15.0, drop_pp=1.0)
NAMES = tuple(f"{index:016x}" for index in range(4000))


def accepted(
    before: Case, size: int = 1000, operators: int = 100, task: str = TASK.name, evidence: Sequence[bytes] | None = None
) -> Baseline:
    assert before.comparison.sqnr_ci95_db is not None
    one = BaselineArtifact(
        format="onnx",
        precision="int8",
        target="cpu",
        sha256="a" * 64,
        bytes=size,
        operators=operators,
        sqnr_ci95_db=before.comparison.sqnr_ci95_db,
        evidence=pack(before.evidence if evidence is None else evidence),
    )
    images = NAMES[: before.comparison.n]
    return Baseline(tool_version="0", task=task, weights_sha256="b" * 64, images=images, artifacts=(one,))


def against(
    current: Case, before: Baseline, size: int = 1000, operators: int = 100, first: int = 0
) -> dict[str, Check]:
    indices = {name: index for index, name in enumerate(NAMES[first : first + current.comparison.n])}
    images = Images(indices, current.targets, current.targets is not None, current.expected)
    judged = Current(current.comparison, current.evidence, size, operators)
    checks = against_baseline(TASK, judged, images, LIMITS, before, before.artifacts[0])
    return {check.name: check for check in checks}


def test_the_same_build_passes() -> None:
    same = case(1000, lost=5)
    checks = against(same, accepted(same))
    assert {check.outcome for check in checks.values()} == {"passed"}
    assert checks.keys() == {"regression_pp", "regression_db", "growth", "operators_growth"}


@pytest.mark.parametrize("labeled", [True, False])
def test_a_regression_fails_within_the_limits_against_pytorch(labeled: bool) -> None:
    before, after = case(4000, labeled=labeled), case(4000, lost=38, labeled=labeled)
    against_reference = against_pytorch(after.comparison, LIMITS.model_dump(), "top-1", 0)
    assert "failed" not in {check.outcome for check in against_reference}
    check = against(after, accepted(before))["regression_pp"]
    assert check.outcome == "failed"
    assert check.value == pytest.approx(100 * 38 / 4000)
    assert ("top-1" if labeled else "agreement") in check.text
    assert "38 lost, 0 gained of 4000" in check.text


@pytest.mark.parametrize("labeled", [True, False])
def test_nan_is_a_regression(labeled: bool) -> None:
    before, after = case(40, labeled=labeled), case(40, labeled=labeled, broken=float("nan"))
    check = against(after, accepted(before))["regression_pp"]
    assert check.value == pytest.approx(100 / 40)
    assert "1 lost, 0 gained of 40" in check.text


def test_a_much_better_build_is_suspicious() -> None:
    before, after = case(4000, lost=200, noise=0.08), case(4000)
    checks = against(after, accepted(before, size=2000, operators=200))
    assert {check.outcome for check in checks.values()} == {"suspicious"}
    assert checks.keys() == {"regression_pp", "regression_db", "growth", "operators_growth"}


def test_a_noisier_build_fails_without_a_changed_class() -> None:
    before, after = case(1000, noise=0.01), case(1000, noise=0.02)
    checks = against(after, accepted(before))
    assert checks["regression_pp"].outcome == "passed"
    assert checks["regression_db"].outcome == "failed"
    assert checks["regression_db"].value == pytest.approx(6.0, abs=0.2)


@pytest.mark.parametrize(
    ("size", "operators", "outcomes"), [(1060, 100, ("failed", "passed")), (1000, 103, ("passed", "failed"))]
)
def test_growth(size: int, operators: int, outcomes: tuple[Outcome, Outcome]) -> None:
    same = case(100)
    checks = against(same, accepted(same), size, operators)
    assert (checks["growth"].outcome, checks["operators_growth"].outcome) == outcomes


def test_only_images_in_common_are_paired() -> None:
    before, after = case(1000), case(1000, lost=100, start=500)
    half = against(after, accepted(before), first=500)["regression_pp"]
    assert "of 500 images in common" in half.text
    assert "100 lost" in half.text
    none = against(case(1000, lost=100, start=1000), accepted(before), first=1000)["regression_pp"]
    assert none.outcome == "undecided"
    assert "other images" in none.text


def test_images_in_common_are_found_by_identity_in_any_order() -> None:
    before, after = case(100), case(100, lost=10)
    indices = {NAMES[99 - index]: index for index in range(100)}
    # The images are the same in reverse order, so that the first ten of this build are the last of the baseline.
    reverse = accepted(before, evidence=before.evidence[::-1])
    judged = Current(after.comparison, after.evidence, 1000, 100)
    images = Images(indices, after.targets, True, after.expected)
    (check, *_) = against_baseline(TASK, judged, images, LIMITS, reverse, reverse.artifacts[0])
    assert check.name == "regression_pp"
    assert "10 lost, 0 gained of 100 images in common" in check.text


def test_evidence_of_another_task_or_length_is_not_compared() -> None:
    same = case(100)
    for before in (
        accepted(same, task="segmentation"),
        accepted(same, evidence=[item + item for item in same.evidence]),
    ):
        assert against(same, before)["regression_pp"].outcome == "undecided"
