"""`validate`: every artifact of a bundle against PyTorch, on the same images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.errors import MissingPartError
from cloformer_deploy.progress import Progress
from cloformer_deploy.validation.drift import Drift
from cloformer_deploy.validation.evaluation import Candidate, Evaluation
from cloformer_deploy.validation.images import opened

Status = Literal["passed", "failed", "not_executed"]

THRESHOLDS: Mapping[str, Mapping[str, float]] = {
    "fp32": {"top1_agreement": 0.999, "sqnr_db": 90.0},
    "fp16": {"top1_agreement": 0.998, "sqnr_db": 40.0},
    "int8": {"top1_agreement": 0.97, "sqnr_db": 15.0},
    "w8": {"top1_agreement": 0.98, "sqnr_db": 20.0},
    "w8a16": {"top1_agreement": 0.98, "sqnr_db": 20.0},
    "p8": {"top1_agreement": 0.98, "sqnr_db": 20.0},
    "p6": {"top1_agreement": 0.95, "sqnr_db": 15.0},
}
"""What an artifact of each precision must at least reach. Both are free of the logits' scale, which weights choose."""


@dataclass(frozen=True)
class Reference:
    """PyTorch's own result: `top1` is None without labels."""

    runtime: str
    n: int
    top1: float | None


@dataclass(frozen=True)
class ArtifactVerdict:
    """One artifact's result. Figures that could not be measured are None; see `Drift` for what they mean."""

    path: str
    format: str
    precision: str
    target: str
    runtime: str
    status: Status
    n: int = 0
    top1_agreement: float | None = None
    top1: float | None = None
    top1_drop_pp: float | None = None
    top1_drop_ci95_pp: tuple[float, float] | None = None
    max_abs_diff: float | None = None
    sqnr_db: float | None = None
    cosine_min: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Validation:
    """The answer of `validate`; `missing` are the parts that kept artifacts from being executed."""

    images: str
    reference: Reference
    artifacts: tuple[ArtifactVerdict, ...]
    missing: tuple[MissingPartError, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any executed artifact failed."""
        return any(artifact.status == "failed" for artifact in self.artifacts)


def validate(bundle: Bundle, data: Path | None, limit: int | None, progress: Progress) -> Validation:
    """Compare every artifact with PyTorch over the images of a folder, or over rendered ones without one.

    Rendered images have labels if the model's classes are those of the rendered task.
    ImageSet are streamed: memory does not grow with their number.

    Raises:
        BundleError: the bundle is not as its manifest says.
        DataError: the images cannot be used, or some are in the calibration set of an artifact.
        ToolError: a runtime failed.
    """
    images = opened(bundle, data, limit, progress)
    evaluation = Evaluation(bundle, images)
    progress.step("Loading the artifacts")
    failures = [evaluation.weight_failures(item) for item in evaluation.candidates]
    executed = [item for item in evaluation.candidates if item.lack is None]
    for item in executed:
        item.session  # noqa: B018 - a file that its runtime cannot read is told before images are looked at
    reference, drifts = Drift(), [Drift() for _ in evaluation.candidates]
    progress.step(f"Comparing {len(executed)} artifacts with PyTorch")
    for batch in evaluation.batches(progress):
        reference.update(batch.expected, batch.expected, batch.labels)
        for drift, found in zip(drifts, batch.found, strict=True):
            if found is not None:
                drift.update(batch.expected, found, batch.labels)
    top1 = reference.reference_correct / reference.labeled if reference.labeled else None
    lacks = {item.runtime: item.lack for item in evaluation.candidates if item.lack is not None}
    return Validation(
        images.name,
        Reference("pytorch", reference.n, top1),
        tuple(
            _verdict(item, drift, found, reference)
            for item, drift, found in zip(evaluation.candidates, drifts, failures, strict=True)
        ),
        tuple(lacks.values()),
    )


def _verdict(candidate: Candidate, drift: Drift, weight_failures: Sequence[str], reference: Drift) -> ArtifactVerdict:
    artifact = candidate.artifact
    described = (artifact.path, artifact.format, artifact.precision, artifact.target, candidate.runtime)
    thresholds = THRESHOLDS[artifact.precision]
    if candidate.lack is not None:
        lack = (candidate.lack.message,)
        return ArtifactVerdict(*described, "not_executed", thresholds=thresholds, failures=lack)
    failures = (*_shortfalls(drift, thresholds, reference), *weight_failures)
    labeled = drift.labeled > 0
    return ArtifactVerdict(
        *described,
        "failed" if failures else "passed",
        n=drift.n,
        top1_agreement=drift.top1_agreement,
        top1=drift.correct / drift.labeled if labeled else None,
        top1_drop_pp=drift.top1_drop_pp if labeled else None,
        top1_drop_ci95_pp=drift.top1_drop_ci95_pp() if labeled else None,
        max_abs_diff=drift.max_abs_diff if drift.measured else None,
        sqnr_db=drift.sqnr_db if drift.measured else None,
        cosine_min=drift.cosine_min if drift.measured else None,
        thresholds=thresholds,
        failures=failures,
    )


def _shortfalls(drift: Drift, thresholds: Mapping[str, float], reference: Drift) -> Iterator[str]:
    if reference.non_finite:
        yield f"PyTorch itself gives NaN or Inf on {reference.non_finite} of {reference.n} images"
    elif drift.non_finite:
        yield f"NaN or Inf on {drift.non_finite} of {drift.n} images"
    if drift.top1_agreement < thresholds["top1_agreement"]:
        images = f"{drift.n - drift.agreeing} of {drift.n} images"
        share, limit = drift.top1_agreement, thresholds["top1_agreement"]
        yield f"top-1 differs from PyTorch's on {images}: agreement {share:.2%} is below {limit:.1%}"
    if drift.measured and drift.sqnr_db < thresholds["sqnr_db"]:
        yield f"SQNR {drift.sqnr_db:.1f} dB is below {thresholds['sqnr_db']:.0f} dB"
