"""`validate`: compare every artifact of a bundle with PyTorch on the same images, within the task's limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.errors import MissingPartError
from cloformer_deploy.npu import Npu
from cloformer_deploy.progress import Progress
from cloformer_deploy.tasks import Comparison, Task
from cloformer_deploy.validation.checks import against_pytorch, at_chance
from cloformer_deploy.validation.evaluation import Evaluated, Evaluation
from cloformer_deploy.validation.images import opened
from cloformer_deploy.validation.workers.base import Workers

Status = Literal["passed", "failed", "not_executed"]


@dataclass(frozen=True)
class Reference:
    """PyTorch's own result; `score` is None without labels."""

    runtime: str
    n: int
    score: float | None


@dataclass(frozen=True)
class ArtifactVerdict:
    """One artifact's result.

    Attributes:
        path, format, precision, target: its manifest entry's.
        runtime: what executed it.
        status: failed if a figure's whole 95 % interval lies beyond its limit.
        found: the figures; None where it was not executed.
        thresholds: the limits.
        failures: what failed, in sentences; or why it was not executed.
        undecided: figures beyond their limit whose 95 % interval holds the limit, in sentences.
    """

    path: str
    format: str
    precision: str
    target: str
    runtime: str
    status: Status
    found: Comparison | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True)
class Validation:
    """The result of `validate`.

    Attributes:
        images: name of the data set.
        task: name of the task.
        metric: name of its metric, or None.
        metric_title: the metric in prose.
        reference: PyTorch's own result.
        artifacts: in the manifest's order.
        missing: parts that kept artifacts from being executed.
    """

    images: str
    task: str
    metric: str | None
    metric_title: str
    reference: Reference
    artifacts: tuple[ArtifactVerdict, ...]
    missing: tuple[MissingPartError, ...] = ()

    @property
    def failed(self) -> bool:
        """True if any executed artifact failed."""
        return any(artifact.status == "failed" for artifact in self.artifacts)


def validate(
    bundle: Bundle,
    data: Path | None,
    max_images: int | None,
    progress: Progress,
    npu: Npu | None = None,
    workers: Workers | None = None,
) -> Validation:
    """Compare every artifact with PyTorch over images.

    Images are streamed: memory grows by a few bytes per image.

    Args:
        bundle: whose artifacts are compared.
        data: images in the task's form; None takes the task's bundled images.
        max_images: see `validation.images.opened`.
        progress: receives each step.
        npu: see `Evaluation`.
        workers: see there.

    Raises:
        BundleError: the bundle is not as its manifest says.
        RequestError: see `Evaluation`.
        MissingPartError: a worker has another environment than this process.
        DataError: the images cannot be used, or some are in the calibration set of an artifact.
        ToolError: a runtime failed.
    """
    images = opened(bundle, data, max_images, progress, npu=npu, workers=workers)
    evaluation = Evaluation(bundle, images, npu=npu, workers=workers)
    results, task = evaluation.run(progress), evaluation.task
    chance = at_chance(results.reference)
    if chance is not None:
        progress.warn(chance)
    return Validation(
        images=images.name,
        task=task.name,
        metric=task.metric,
        metric_title=task.metric_title,
        reference=Reference("pytorch", results.reference.n, results.reference.score),
        artifacts=tuple(_verdict(item, task, results.reference.non_finite) for item in results.artifacts),
        missing=results.missing,
    )


def _verdict(item: Evaluated, task: Task, reference_non_finite: int) -> ArtifactVerdict:
    artifact, candidate = item.candidate.artifact, item.candidate
    described = (artifact.path, *artifact.key, candidate.runtime)
    limits = task.thresholds(artifact.precision)
    if candidate.lack is not None or item.comparison is None:
        lack = (candidate.lack.message,) if candidate.lack is not None else ()
        return ArtifactVerdict(*described, "not_executed", thresholds=limits, failures=lack)
    checks = list(against_pytorch(item.comparison, limits, task.metric_title, reference_non_finite))
    failures = [
        f"{check.text}: below {check.limit:g}" if check.name in ("agreement", "sqnr_db") else check.text
        for check in checks
        if check.outcome == "failed"
    ]
    failures += item.weight_failures
    return ArtifactVerdict(
        *described,
        "failed" if failures else "passed",
        found=item.comparison,
        thresholds=limits,
        failures=tuple(failures),
        undecided=tuple(check.text for check in checks if check.outcome == "undecided"),
    )
