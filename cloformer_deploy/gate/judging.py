"""`gate`: every artifact of a bundle against PyTorch and against the last build that was accepted."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy import __version__
from cloformer_deploy.backends.registry import FORMATS
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import MissingPartError
from cloformer_deploy.gate.baseline import Accepted, Baseline, pack
from cloformer_deploy.gate.checks import Check, against_baseline, against_pytorch
from cloformer_deploy.gate.config import DriftConfig
from cloformer_deploy.progress import Progress
from cloformer_deploy.validation.cache import Cache, key
from cloformer_deploy.validation.diagnosis import diagnose
from cloformer_deploy.validation.evaluation import Candidate, Evaluation
from cloformer_deploy.validation.images import opened
from cloformer_deploy.validation.logits import normalized_logits
from cloformer_deploy.validation.paired import ClassDrift, Paired

Status = Literal["passed", "failed", "not_executed"]
DIAGNOSED = 32
"""ImageSet that a failed artifact's fault is looked for on."""
MOST_BROKEN = 4


@dataclass(frozen=True)
class Cell:
    """One artifact's result; figures are None where it was not executed, or without labels.

    Attributes:
        artifact: as the manifest lists it.
        runtime: what executed it.
        status: failed if a check failed, or is undecided and the configuration wants that to fail.
        checks: all, in order.
        causes: what explains a failure, in sentences, where something does.
        drift: the figures against PyTorch.
        classes: those that changed, the surest loss first.
        operators: their number.
    """

    artifact: Artifact
    runtime: str
    status: Status
    checks: tuple[Check, ...]
    causes: tuple[str, ...] = ()
    drift: Paired | None = None
    classes: tuple[ClassDrift, ...] = ()
    operators: int | None = None


@dataclass(frozen=True)
class Gate:
    """The answer of `gate`.

    Attributes:
        images: which, for people.
        n: how many.
        top1: PyTorch's own, 0..1, None without labels.
        labels: names of the classes, if the model has some.
        cells: one an artifact.
        absent: artifacts that the baseline has and the bundle has not; each fails the gate.
        accepted: this build as a baseline, if every artifact passed against PyTorch.
        missing: parts that kept artifacts from being executed.
        config: where the limits were read; None for the defaults.
    """

    images: str
    n: int
    top1: float | None
    labels: tuple[str, ...] | None
    cells: tuple[Cell, ...]
    absent: tuple[Accepted, ...]
    accepted: Baseline | None
    missing: tuple[MissingPartError, ...]
    config: str | None

    @property
    def failed(self) -> bool:
        """Whether the build must not pass; an artifact that was not executed and need not be has passed."""
        return bool(self.absent) or any(cell.status == "failed" for cell in self.cells)


def gate(
    bundle: Bundle,
    data: Path | None,
    limit: int | None,
    config: DriftConfig,
    baseline: Baseline | None,
    cache: Cache | None,
    latency: Mapping[str, Sequence[Check]],
    progress: Progress,
) -> Gate:
    """Judge a bundle on the images of a folder, or on rendered ones without one.

    Args:
        bundle: to be judged.
        data: see `validation.images.opened`.
        limit: of the images.
        config: the limits.
        baseline: the last accepted build; None compares with PyTorch alone.
        cache: what it knows is not computed again.
        latency: checks of latency by an artifact's path, see `latency_checks`.
        progress: is told what goes on.

    Raises:
        BundleError: the bundle is not as its manifest says.
        DataError: the images cannot be used, or some are in the calibration set of an artifact.
        ToolError: a runtime failed.
    """
    images = opened(bundle, data, limit, progress, cache)
    evaluation = Evaluation(bundle, images, cache)
    progress.step(f"Comparing {len(evaluation.candidates)} artifacts with PyTorch")
    reference, drifts = Paired(), [Paired() for _ in evaluation.candidates]
    samples = [_Sample(len(images)) for _ in evaluation.candidates]
    for batch in evaluation.batches(progress):
        reference.update(batch.expected, batch.expected, batch.labels)
        for drift, sample, found in zip(drifts, samples, batch.found, strict=True):
            if found is not None:
                drift.update(batch.expected, found, batch.labels)
                sample.add(batch.places, found)
    progress.step("Judging")
    identities = [key(images.identity(index)).hex()[:16] for index in range(len(images))]
    places = {name: index for index, name in enumerate(identities)}
    cells = [
        _cell(evaluation, item, drift, config, baseline, places, reference, sample, latency)
        for item, drift, sample in zip(evaluation.candidates, drifts, samples, strict=True)
    ]
    lacks = {item.runtime: item.lack for item in evaluation.candidates if item.lack is not None}
    known = baseline.artifacts if baseline else ()
    return Gate(
        images=images.name,
        n=reference.n,
        top1=reference.reference_correct / reference.labeled if reference.labeled else None,
        labels=bundle.manifest.labels,
        cells=tuple(cells),
        absent=tuple(old for old in known if not any(old.is_of(item) for item in bundle.manifest.artifacts)),
        accepted=_accepted(bundle, identities, cells),
        missing=tuple(lacks.values()),
        config=config.source,
    )


class _Sample:
    """Places and logits (classes,) of `DIAGNOSED` images spread over all, for folders are sorted by class.

    Some whose logits are not finite are added, wherever they are: there may be a single one.
    """

    def __init__(self, total: int) -> None:
        count = min(DIAGNOSED, total)
        self._wanted = frozenset(index * total // count for index in range(count))
        self._broken = 0
        self.places: list[int] = []
        self.rows: list[NDArray[np.float32]] = []

    def add(self, places: range, logits: NDArray[np.float32]) -> None:
        for place, row in zip(places, logits, strict=True):
            broken = not np.isfinite(row).all()
            if place in self._wanted or (broken and self._broken < MOST_BROKEN):
                self.places.append(place)
                self.rows.append(row)
                self._broken += broken


def _cell(
    evaluation: Evaluation,
    candidate: Candidate,
    drift: Paired,
    config: DriftConfig,
    baseline: Baseline | None,
    places: Mapping[str, int],
    reference: Paired,
    sample: _Sample,
    latency: Mapping[str, Sequence[Check]],
) -> Cell:
    artifact, limits = candidate.artifact, config.limits_of(candidate.artifact)
    if candidate.lack is not None:
        allowed = limits.not_executed == "allow"
        check = Check("executed", "undecided" if allowed else "failed", f"not executed: {candidate.lack.message}")
        return Cell(artifact, candidate.runtime, "not_executed" if allowed else "failed", (check,))
    operators = int(evaluation.remembered(("operators", artifact.sha256), lambda: _operators(evaluation, artifact)))
    accepted = baseline.accepted(artifact) if baseline else None
    checks = list(_weights(evaluation.weight_failures(candidate)))
    checks += against_pytorch(drift, limits, reference.non_finite)
    if baseline and accepted:
        checks += against_baseline(drift, artifact.bytes, operators, limits, baseline, accepted, places)
    checks += latency.get(artifact.path, ())
    bad = ("failed", "undecided") if config.undecided == "fail" else ("failed",)
    failed = any(check.outcome in bad for check in checks)
    return Cell(
        artifact,
        candidate.runtime,
        "failed" if failed else "passed",
        tuple(checks),
        tuple(_causes(evaluation, sample)) if failed else (),
        drift,
        tuple(drift.classes()),
        operators,
    )


def _weights(failures: Sequence[str]) -> Iterator[Check]:
    """One check however many tensors differ: those of another build all do."""
    if failures:
        more = f"; and {len(failures) - 1} more" if len(failures) > 1 else ""
        yield Check("weights", "failed", failures[0] + more)


def _operators(evaluation: Evaluation, artifact: Artifact) -> bytes:
    described = FORMATS[artifact.format].describe(evaluation.bundle.path(artifact))
    return str(sum(described.operators.values())).encode()


def _causes(evaluation: Evaluation, sample: _Sample) -> list[str]:
    manifest = evaluation.bundle.manifest
    (batch,) = evaluation.images.select(sample.places).batches(manifest.input, len(sample.places))
    reference = functools.partial(normalized_logits, evaluation.model)
    return diagnose(reference, manifest.input, batch.pixels, np.stack(sample.rows), manifest.labels)


def _accepted(bundle: Bundle, identities: Sequence[str], cells: Sequence[Cell]) -> Baseline | None:
    """The build as a baseline, unless an artifact failed against PyTorch itself."""
    if any(check.outcome == "failed" and not _relative(check) for cell in cells for check in cell.checks):
        return None
    return Baseline(
        tool_version=__version__,
        weights_sha256=bundle.manifest.weights.sha256,
        images=tuple(identities),
        artifacts=tuple(_figures(cells)),
    )


def _relative(check: Check) -> bool:
    return check.name in ("regression_pp", "regression_db", "growth", "operators_growth", "slowdown")


def _figures(cells: Sequence[Cell]) -> Iterator[Accepted]:
    for cell in cells:
        if cell.drift is not None and cell.operators is not None and cell.drift.measured:
            yield Accepted(
                format=cell.artifact.format,
                precision=cell.artifact.precision,
                target=cell.artifact.target,
                sha256=cell.artifact.sha256,
                bytes=cell.artifact.bytes,
                operators=cell.operators,
                sqnr_ci95_db=cell.drift.sqnr_ci95_db(),
                agrees=pack(cell.drift.agrees),
                right=pack(cell.drift.right) if cell.drift.right else None,
            )
