"""`validate`: every artefact of a bundle against PyTorch, on the same pictures."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.cores import usable_cores
from cloformer_deploy.data import Batch, Pictures, Preprocessing, RenderedPictures, open_folder
from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.errors import BundleError, MissingPartError, ToolError
from cloformer_deploy.formats import FLOATS
from cloformer_deploy.manifest import Artifact, Manifest
from cloformer_deploy.progress import Progress
from cloformer_deploy.runtimes import Session, runtime_for
from cloformer_deploy.validation.drift import Drift
from cloformer_deploy.validation.logits import artifact_logits, reference_logits, weight_failures
from cloformer_deploy.validation.overlap import refuse_shared

if TYPE_CHECKING:
    from cloformer_deploy.architecture import CloFormer

Status = Literal["passed", "failed", "not_executed"]

BATCH_SIZE = 16
LABELLED_COUNT = 1000
UNLABELLED_COUNT = 16
"""Rendered pictures that are looked at without `--data`: accuracy takes many, numerical distance a few."""
THRESHOLDS: Mapping[str, Mapping[str, float]] = {
    "fp32": {"top1_agreement": 0.999, "sqnr_db": 90.0},
    "fp16": {"top1_agreement": 0.998, "sqnr_db": 40.0},
    "int8": {"top1_agreement": 0.97, "sqnr_db": 15.0},
    "w8": {"top1_agreement": 0.98, "sqnr_db": 20.0},
    "w8a16": {"top1_agreement": 0.98, "sqnr_db": 20.0},
    "p8": {"top1_agreement": 0.98, "sqnr_db": 20.0},
    "p6": {"top1_agreement": 0.95, "sqnr_db": 15.0},
}
"""What an artefact of each precision must at least reach. Both are free of the logits' scale, which weights choose."""


@dataclass(frozen=True)
class Reference:
    """PyTorch's own result: `top1` is None without labels."""

    runtime: str
    n: int
    top1: float | None


@dataclass(frozen=True)
class ArtifactVerdict:
    """One artefact's result. Figures that could not be measured are None; see `Drift` for what they mean."""

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
    """The answer of `validate`; `missing` are the parts that kept artefacts from being executed."""

    pictures: str
    reference: Reference
    artifacts: tuple[ArtifactVerdict, ...]
    missing: tuple[MissingPartError, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any executed artefact failed."""
        return any(artifact.status == "failed" for artifact in self.artifacts)


@dataclass
class _Candidate:
    """An artefact under test: its session (None where its runtime is missing) and its running drift."""

    artifact: Artifact
    runtime: str
    session: Session | None
    failures: list[str]
    drift: Drift = field(default_factory=Drift)

    def add(self, batch: Batch, expected: NDArray[np.float32], preprocessing: Preprocessing) -> None:
        """Run a batch and add its drift from the expected logits (B, classes)."""
        if self.session is None:
            return
        kind, classes = self.artifact.input.kind, expected.shape[1]
        try:
            found = artifact_logits(self.session, batch.pixels, preprocessing, kind, classes)
        except ToolError as error:
            raise ToolError(f"{self.artifact.path}: {error.message}", error.hint) from error
        self.drift.update(expected, found, batch.labels)


def validate(bundle: Bundle, data: Path | None, limit: int | None, progress: Progress) -> Validation:
    """Compare every artefact with PyTorch over the pictures of a folder, or over rendered ones without one.

    Rendered pictures have labels if the model's classes are those of the rendered task.
    Pictures are streamed: memory does not grow with their number.

    Raises:
        BundleError: the bundle is not as its manifest says.
        DataError: the pictures cannot be used, or some are in the calibration set of an artefact.
        ToolError: a runtime failed.
    """
    progress.step("Checking the bundle")
    bundle.verify()
    manifest = bundle.manifest
    if not manifest.artifacts:
        raise BundleError(f"{bundle.root} lists no artefacts", "export into it")
    pictures = _pictures(bundle, data, limit)
    for warning in pictures.warnings:
        progress.warn(warning)
    if data is not None:  # rendered ones are of another split than those that ranges are measured on
        _refuse_calibration(manifest, pictures, progress)
    model = _reference_model(bundle)
    progress.step("Loading the artefacts")
    candidates, missing = _load(bundle, model)
    reference = Drift()
    progress.step(f"Comparing {sum(item.session is not None for item in candidates)} artefacts with PyTorch")
    with ThreadPoolExecutor(usable_cores()) as pool:
        for batch in pictures.batches(manifest.input, BATCH_SIZE):
            expected = reference_logits(model, batch.pixels, manifest.input)
            reference.update(expected, expected, batch.labels)
            list(pool.map(_Candidate.add, candidates, repeat(batch), repeat(expected), repeat(manifest.input)))
            progress.advance(reference.n, len(pictures))
    top1 = reference.reference_correct / reference.labelled if reference.labelled else None
    return Validation(
        pictures.name,
        Reference("pytorch", reference.n, top1),
        tuple(_verdict(candidate, reference) for candidate in candidates),
        tuple(missing),
    )


def _reference_model(bundle: Bundle) -> "CloFormer":
    from cloformer_deploy.checkpoints import build_model, load_checkpoint

    manifest, checkpoint = bundle.manifest, load_checkpoint(bundle.weights_path)
    said = (manifest.variant, manifest.num_classes)
    if said != (checkpoint.variant, checkpoint.num_classes):
        raise BundleError(
            f"{bundle.root}'s manifest says {said[0]} with {said[1]} classes, "
            f"its weights are {checkpoint.variant} with {checkpoint.num_classes}",
            "export again with --overwrite",
        )
    return build_model(checkpoint)


def _pictures(bundle: Bundle, data: Path | None, limit: int | None) -> Pictures:
    manifest = bundle.manifest
    if data is not None:
        return open_folder(data, manifest.num_classes, manifest.labels).limited(limit)
    labelled = manifest.labels == CLASSES
    count = LABELLED_COUNT if labelled else UNLABELLED_COUNT
    return RenderedPictures("test", range(limit or count), labelled)


def _refuse_calibration(manifest: Manifest, pictures: Pictures, progress: Progress) -> None:
    """Look at all pictures before anything is run: the answer would be of no use."""
    calibrations = {item.sha256[:12]: item.pictures for item in manifest.calibrations}
    if not calibrations:
        return
    progress.step("Looking for pictures of the calibration set")

    def batches() -> Iterator[NDArray[np.uint8]]:
        done = 0
        for batch in pictures.batches(manifest.input, BATCH_SIZE):
            yield batch.pixels
            done += len(batch.pixels)
            progress.advance(done, len(pictures))

    refuse_shared(batches(), calibrations, pictures.name)


def _load(bundle: Bundle, model: "CloFormer") -> tuple[list[_Candidate], list[MissingPartError]]:
    from cloformer_deploy.lowering import lower

    candidates, missing = [], {}
    for artifact in bundle.manifest.artifacts:
        runtime = runtime_for(artifact.format)
        lack = runtime.missing()
        if lack is not None:
            missing[runtime.name] = lack
            candidates.append(_Candidate(artifact, runtime.name, None, [lack.message]))
            continue
        path = bundle.path(artifact)
        session = runtime.open(path)
        failures = []
        # Those in a file with integers may have been equalised, on a calibration set: only its export knows them.
        if artifact.precision in FLOATS:
            failures = weight_failures(path, artifact.format, lower(model, artifact.format, artifact.target))
        candidates.append(_Candidate(artifact, runtime.name, session, failures))
    return candidates, list(missing.values())


def _verdict(candidate: _Candidate, reference: Drift) -> ArtifactVerdict:
    artifact, drift = candidate.artifact, candidate.drift
    described = (artifact.path, artifact.format, artifact.precision, artifact.target, candidate.runtime)
    thresholds = THRESHOLDS[artifact.precision]
    if candidate.session is None:
        return ArtifactVerdict(*described, "not_executed", thresholds=thresholds, failures=tuple(candidate.failures))
    failures = [*_shortfalls(drift, thresholds, reference), *candidate.failures]
    labelled = drift.labelled > 0
    return ArtifactVerdict(
        *described,
        "failed" if failures else "passed",
        n=drift.n,
        top1_agreement=drift.top1_agreement,
        top1=drift.correct / drift.labelled if labelled else None,
        top1_drop_pp=drift.top1_drop_pp if labelled else None,
        top1_drop_ci95_pp=drift.top1_drop_ci95_pp() if labelled else None,
        max_abs_diff=drift.max_abs_diff if drift.measured else None,
        sqnr_db=drift.sqnr_db if drift.measured else None,
        cosine_min=drift.cosine_min if drift.measured else None,
        thresholds=thresholds,
        failures=tuple(failures),
    )


def _shortfalls(drift: Drift, thresholds: Mapping[str, float], reference: Drift) -> Iterator[str]:
    if reference.non_finite:
        yield f"PyTorch itself gives NaN or Inf on {reference.non_finite} of {reference.n} pictures"
    elif drift.non_finite:
        yield f"NaN or Inf on {drift.non_finite} of {drift.n} pictures"
    if drift.top1_agreement < thresholds["top1_agreement"]:
        pictures = f"{drift.n - drift.agreeing} of {drift.n} pictures"
        share, limit = drift.top1_agreement, thresholds["top1_agreement"]
        yield f"top-1 differs from PyTorch's on {pictures}: agreement {share:.2%} is below {limit:.1%}"
    if drift.measured and drift.sqnr_db < thresholds["sqnr_db"]:
        yield f"SQNR {drift.sqnr_db:.1f} dB is below {thresholds['sqnr_db']:.0f} dB"
