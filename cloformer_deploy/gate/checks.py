"""Checks of an artifact against the baseline. A figure that is far better than the baseline's is suspicious."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloformer_deploy.gate.baseline import Baseline, BaselineArtifact
from cloformer_deploy.gate.config import Limits
from cloformer_deploy.tasks import Comparison, Task
from cloformer_deploy.validation.checks import Check, Outcome, at_most, moved


@dataclass(frozen=True)
class Current:
    """An artifact of the build that is judged.

    Attributes:
        comparison: with PyTorch.
        evidence: of each image.
        bytes: size of the file.
        operators: number of operators.
    """

    comparison: Comparison
    evidence: Sequence[bytes]
    bytes: int
    operators: int


@dataclass(frozen=True)
class Images:
    """The images that the build is judged on.

    Attributes:
        indices: index of each image, by its identity as in `Baseline.images`.
        targets: the right classes of the images, or None.
        labeled: whether something says what is right, by classes or by masks.
        expected: PyTorch's evidence of each image.
    """

    indices: Mapping[str, int]
    targets: Sequence[Any] | None
    labeled: bool
    expected: Sequence[bytes]


def against_baseline(
    task: Task, current: Current, images: Images, limits: Limits, baseline: Baseline, before: BaselineArtifact
) -> Iterator[Check]:
    """Yield the checks of an artifact of whose kind the baseline has one.

    Args:
        task: of the build.
        current: the artifact.
        images: that it was run on.
        limits: the artifact's.
        baseline: that `before` is from.
        before: the accepted artifact.
    """
    yield _regression(task, current, images, limits, baseline, before)
    if current.comparison.sqnr_db is not None and current.comparison.sqnr_ci95_db is not None:
        low, high = current.comparison.sqnr_ci95_db
        before_low, before_high = before.sqnr_ci95_db
        fall = (before_low + before_high) / 2 - current.comparison.sqnr_db
        # The accepted SQNR is known to within its own interval.
        interval = (before_low - high, before_high - low)
        now = f"SQNR {current.comparison.sqnr_db:.1f} dB"
        text = f"{now}, {before_low:.1f} to {before_high:.1f} dB in the baseline"
        check = at_most("regression_db", fall, limits.regression_db, interval, current.comparison.n, text)
        yield _suspected(check, limits.regression_db)
    for name, what, now_count, count, limit in (
        ("growth", "bytes", current.bytes, before.bytes, limits.growth),
        ("operators_growth", "operators", current.operators, before.operators, limits.operators_growth),
    ):
        share = now_count / count - 1
        text = f"{now_count:,} {what}, {count:,} in the baseline ({share:+.1%})"
        outcome: Outcome = "failed" if share > limit else "suspicious" if share < -limit else "passed"
        yield Check(name, outcome, text, share, limit)


def _regression(
    task: Task, current: Current, images: Images, limits: Limits, baseline: Baseline, before: BaselineArtifact
) -> Check:
    """Compare the metric (without labels, the agreement with PyTorch) with the baseline's, on the images in common."""
    name = "regression_pp"
    known = {identity: index for index, identity in enumerate(baseline.images)}
    common = [(known[identity], index) for identity, index in images.indices.items() if identity in known]
    evidence = baseline.evidence(before)
    if not common or len(evidence[0]) != len(current.evidence[0]) or baseline.task != task.name:
        text = "the baseline was made on other images: give the same ones, or accept anew with --update-baseline"
        return Check(name, "undecided", text)
    then, now = ([evidence[old] for old, _ in common], [current.evidence[new] for _, new in common])
    targets = images.targets if images.targets is not None else task.pseudo_targets(images.expected)
    found = task.compare(then, now, [targets[new] for _, new in common])
    if found.drop_pp is None or found.drop_ci95_pp is None:
        return Check(name, "undecided", "the task has no metric to compare with the baseline")
    what = task.metric_title if images.labeled else "agreement"
    text = f"{what} {moved(found.drop_pp)} the baseline's: {found.drop_detail} images in common"
    check = at_most(name, found.drop_pp, limits.regression_pp, found.drop_ci95_pp, found.n, text)
    return _suspected(check, limits.regression_pp)


def _suspected(check: Check, limit: float) -> Check:
    """Mark a check as suspicious if its whole interval is better than the baseline by more than the limit."""
    if check.ci95 is not None and check.ci95[1] < -limit:
        return Check(check.name, "suspicious", check.text, check.value, check.limit, check.ci95)
    return check
