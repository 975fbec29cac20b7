"""`gate`: judge every artifact of a bundle against PyTorch and against the last build that was accepted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cloformer_deploy import __version__
from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import MissingPartError
from cloformer_deploy.gate.baseline import Baseline, BaselineArtifact, pack
from cloformer_deploy.gate.checks import Current, Images, against_baseline
from cloformer_deploy.gate.config import DriftConfig
from cloformer_deploy.gate.npus import npu_checks
from cloformer_deploy.npu import Npu
from cloformer_deploy.progress import Progress
from cloformer_deploy.tasks import Comparison
from cloformer_deploy.validation.bundle_work import Candidate
from cloformer_deploy.validation.cache import Cache, key
from cloformer_deploy.validation.checks import Check, against_pytorch, at_chance
from cloformer_deploy.validation.diagnosis import diagnose
from cloformer_deploy.validation.evaluation import Evaluated, Evaluation, Results
from cloformer_deploy.validation.images import opened
from cloformer_deploy.validation.workers.base import Workers

Status = Literal["passed", "failed", "not_executed"]
DIAGNOSED = 32
"""Images on which the cause of a failure is looked for."""
_RELATIVE = ("regression_pp", "regression_db", "growth", "operators_growth", "slowdown")
"""Checks against the baseline; a build that fails them may still become the next baseline."""


@dataclass(frozen=True)
class Cell:
    """One artifact's result.

    Attributes:
        artifact: its manifest entry.
        runtime: what executed it.
        status: failed if a check failed, or is undecided and the configuration wants that to fail.
        checks: all, in order.
        causes: explanations of a failure (see `diagnose`), in sentences; may be empty.
        comparison: the figures against PyTorch; None where it was not executed.
        evidence: of each image.
        operators: number of operators in the file.
    """

    artifact: Artifact
    runtime: str
    status: Status
    checks: tuple[Check, ...]
    causes: tuple[str, ...] = ()
    comparison: Comparison | None = None
    evidence: tuple[bytes, ...] = ()
    operators: int | None = None


@dataclass(frozen=True)
class Gate:
    """The result of `gate`.

    Attributes:
        images: name of the data set.
        task: name of the task.
        metric: name of its metric, or None.
        metric_title: the metric in prose.
        reference: PyTorch's own result.
        labels: names of the classes, if the model has some.
        cells: one per artifact.
        absent: artifacts that the baseline has and the bundle has not; each fails the gate.
        new_baseline: this build as a baseline, if every artifact passed against PyTorch.
        missing: parts that kept artifacts from being executed.
        config: where the limits were read; None for the defaults.
    """

    images: str
    task: str
    metric: str | None
    metric_title: str
    reference: Comparison
    labels: tuple[str, ...] | None
    cells: tuple[Cell, ...]
    absent: tuple[BaselineArtifact, ...]
    new_baseline: Baseline | None
    missing: tuple[MissingPartError, ...]
    config: str | None

    @property
    def failed(self) -> bool:
        """True if the build must not pass; an artifact that was not executed and need not be has passed."""
        return bool(self.absent) or any(cell.status == "failed" for cell in self.cells)


def gate(
    bundle: Bundle,
    data: Path | None,
    max_images: int | None,
    config: DriftConfig,
    baseline: Baseline | None,
    cache: Cache | None,
    latency: Mapping[str, Sequence[Check]],
    progress: Progress,
    npu: Npu | None = None,
    workers: Workers | None = None,
) -> Gate:
    """Judge a bundle on images.

    Args:
        bundle: to be judged.
        data: see `validation.images.opened`.
        max_images: see there.
        config: the limits.
        baseline: the last accepted build; None compares with PyTorch alone.
        cache: results that it has are not computed again.
        latency: checks of latency by an artifact's path, see `latency_checks`.
        progress: receives each step.
        npu: see `Evaluation`; a baseline is then of the same NPU.
        workers: see `Evaluation`.

    Raises:
        BundleError: the bundle is not as its manifest says.
        RequestError: see `Evaluation`.
        MissingPartError: a worker has another environment than this process.
        DataError: the images cannot be used, or some are in the calibration set of an artifact.
        ToolError: a runtime failed.
    """
    images = opened(bundle, data, max_images, progress, cache, npu, workers)
    evaluation = Evaluation(bundle, images, cache, npu, workers)
    results, task = evaluation.run(progress), evaluation.task
    progress.step("Judging")
    identities = [key(images.identity(index)).hex()[:16] for index in range(len(images))]
    judge = _Judge(evaluation, results, config, baseline, identities, npu)
    cells = tuple(judge.cell(item, latency.get(item.candidate.artifact.path, ())) for item in results.artifacts)
    known = baseline.artifacts if baseline else ()
    kinds = {item.key for item in bundle.manifest.artifacts}
    return Gate(
        images=images.name,
        task=task.name,
        metric=task.metric,
        metric_title=task.metric_title,
        reference=results.reference,
        labels=bundle.manifest.answers,
        cells=cells,
        absent=tuple(old for old in known if old.key not in kinds),
        new_baseline=_new_baseline(bundle, identities, cells),
        missing=results.missing,
        config=config.source,
    )


class _Judge:
    """Applies the limits to each artifact's results."""

    def __init__(
        self,
        evaluation: Evaluation,
        results: Results,
        config: DriftConfig,
        baseline: Baseline | None,
        identities: Sequence[str],
        npu: Npu | None,
    ) -> None:
        self._npu = npu
        self._evaluation, self._results, self._config, self._baseline = evaluation, results, config, baseline
        indices = {name: index for index, name in enumerate(identities)}
        self._images = Images(indices, evaluation.images.labels, evaluation.images.has_targets, results.evidence)

    def cell(self, item: Evaluated, latency: Sequence[Check]) -> Cell:
        candidate, artifact, task = item.candidate, item.candidate.artifact, self._evaluation.task
        limits = self._config.limits_of(artifact, task)
        if item.comparison is None:
            allowed = limits.not_executed == "allow"
            lack = candidate.lack.message if candidate.lack is not None else ""
            check = Check("executed", "undecided" if allowed else "failed", f"not executed: {lack}")
            return Cell(artifact, candidate.runtime, "not_executed" if allowed else "failed", (check,))
        operators = self._operators(artifact)
        checks = list(_weights(item.weight_failures))
        non_finite = self._results.reference.non_finite
        chance = at_chance(self._results.reference)
        if chance is not None:
            checks.append(Check("reference", "failed", chance))
        checks += against_pytorch(item.comparison, limits.model_dump(), task.metric_title, non_finite)
        before = self._baseline.artifact(artifact.key) if self._baseline else None
        if self._baseline is not None and before is not None:
            current = Current(item.comparison, item.evidence, artifact.bytes, operators)
            checks += against_baseline(task, current, self._images, limits, self._baseline, before)
        checks += latency
        path = self._evaluation.bundle.path(artifact)
        checks += npu_checks(artifact, path, limits, self._npu, self._evaluation.remembered)
        bad = ("failed", "undecided") if self._config.undecided == "fail" else ("failed",)
        failed = any(check.outcome in bad for check in checks)
        return Cell(
            artifact,
            candidate.runtime,
            "failed" if failed else "passed",
            tuple(checks),
            tuple(self._causes(candidate, item.comparison)) if failed else (),
            item.comparison,
            item.evidence,
            operators,
        )

    def _operators(self, artifact: Artifact) -> int:
        def count() -> bytes:
            described = BACKENDS[artifact.format].describe(self._evaluation.bundle.path(artifact))
            return str(sum(described.operators.values())).encode()

        return int(self._evaluation.remembered(("operators", artifact.sha256), count))

    def _causes(self, candidate: Candidate, comparison: Comparison) -> list[str]:
        """Run the file again on some images, evenly over all because folders are sorted by class, and diagnose it."""
        evaluation, manifest = self._evaluation, self._evaluation.bundle.manifest
        total = len(evaluation.images)
        count = min(DIAGNOSED, total)
        chosen = {index * total // count for index in range(count)}
        if comparison.first_non_finite is not None:  # there may be a single such image
            chosen.add(comparison.first_non_finite)
        some = evaluation.images.select(sorted(chosen))
        batches = list(some.batches(manifest.preprocessing, len(chosen)))
        pixels = np.concatenate([batch.pixels for batch in batches])
        expected = evaluation.reference(manifest.preprocessing.normalize(pixels))
        found = candidate.outputs(pixels, expected)
        return diagnose(
            evaluation.task,
            evaluation.reference,
            manifest.preprocessing,
            pixels,
            found,
            manifest.labels,
            evaluation.mistaken(),
        )


def _weights(failures: Sequence[str]) -> Iterator[Check]:
    """Yield one check for all tensors that differ, because in a file of other weights all of them do."""
    if failures:
        more = f"; and {len(failures) - 1} more" if len(failures) > 1 else ""
        yield Check("weights", "failed", failures[0] + more)


def _new_baseline(bundle: Bundle, identities: Sequence[str], cells: Sequence[Cell]) -> Baseline | None:
    """Return the build as a baseline, unless an artifact failed against PyTorch itself."""
    if any(check.outcome == "failed" and check.name not in _RELATIVE for cell in cells for check in cell.checks):
        return None
    return Baseline(
        tool_version=__version__,
        task=bundle.manifest.task,
        weights_sha256=bundle.manifest.weights.sha256,
        images=tuple(identities),
        artifacts=tuple(_baseline_artifacts(cells)),
    )


def _baseline_artifacts(cells: Sequence[Cell]) -> Iterator[BaselineArtifact]:
    for cell in cells:
        found = cell.comparison
        if found is not None and cell.operators is not None and found.sqnr_ci95_db is not None:
            yield BaselineArtifact(
                format=cell.artifact.format,
                precision=cell.artifact.precision,
                target=cell.artifact.target,
                sha256=cell.artifact.sha256,
                bytes=cell.artifact.bytes,
                operators=cell.operators,
                sqnr_ci95_db=found.sqnr_ci95_db,
                evidence=pack(cell.evidence),
            )
