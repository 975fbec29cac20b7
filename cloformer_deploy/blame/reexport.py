"""The file that a bundle's weights give today, made the way export made the one in question, to hold that against."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloformer_deploy.backends.coreml.format import IOS_TARGETS
from cloformer_deploy.backends.registry import FORMATS
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import CalibrationSet, default_calibration, open_calibration
from cloformer_deploy.errors import RequestError
from cloformer_deploy.export.jobs import Job, run
from cloformer_deploy.export.pipeline import file_metadata
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization.recipes import RECIPES
from cloformer_deploy.system.packages import installed_version, require
from cloformer_deploy.validation.evaluation import reference_model

if TYPE_CHECKING:
    from torch import fx

    from cloformer_deploy.networks.cloformer import CloFormer

_FIRST_SPECIFICATION = 6
"""The version of Core ML's specification that iOS 15 brought; each iOS since brought the next."""


@dataclass(frozen=True)
class Reexported:
    """A file made again, and the model it was made of.

    Attributes:
        path: the file.
        job: which made it; others like it make it with more left float.
        reference: PyTorch's model.
        traced: the lowered model as a graph, float, before what only integers ask for.
        rounded: the nodes of `traced` that leave integers.
        calibration: what its ranges were measured on; None where it has none.
        findings: what is remarkable about how it was made.
    """

    path: Path
    job: Job
    reference: "CloFormer"
    traced: "fx.GraphModule"
    rounded: frozenset[str]
    calibration: CalibrationSet | None
    findings: tuple[str, ...] = ()


def reexport(
    bundle: Bundle,
    artifact: Artifact,
    folder: Path,
    calibration: Path | None,
    progress: Progress,
    sound: Path | None = None,
) -> Reexported:
    """Export one artifact of a bundle again, into a folder that is not the bundle's.

    Args:
        bundle: whose weights are taken.
        artifact: one that it lists; its file is looked at for the iOS it is for alone.
        folder: where the new file goes, and what belongs to it.
        calibration: a file that `calibrate` wrote; None is the set that ships, if the artifact was made with it.
        progress: told what is going on.
        sound: a file that is known to be what the export would make, to be taken in its place.

    Raises:
        BundleError: the weights are not those of the manifest.
        RequestError: the calibration set is needed and was not given, or is damaged.
        MissingPartError: the converter is not installed.
        ToolError: it failed.
    """
    from cloformer_deploy.lowering import lower
    from cloformer_deploy.quantization import graph

    bundle.verify_weights()
    manifest, precision = bundle.manifest, artifact.precision
    packages = FORMATS[artifact.format].packages
    require(*(package.replace("-", "_") for package in packages), extra=FORMATS[artifact.format].extra)
    recipe = RECIPES[artifact.format, artifact.target].get(precision)
    calibrated = recipe is not None and recipe.needs_calibration
    images = _images(artifact, calibration) if calibrated else None
    reference = reference_model(bundle)
    path = folder / artifact.path
    job = Job(
        weights=bundle.weights_path,
        format=artifact.format,
        target=artifact.target,
        outputs={precision: path},
        preprocessing=manifest.input,
        input_kind=artifact.input.kind,
        batch=None if artifact.input.batch == "dynamic" else artifact.input.batch,
        labels=manifest.labels,
        metadata=file_metadata(manifest, artifact.target),
        ios=_ios(bundle.path(artifact)) if artifact.format == "coreml" else IOS_TARGETS[0],
        calibration=calibration,
        excluded_layers={precision: artifact.excluded_layers},
        observed=folder / "observed.pt" if calibrated else None,
    )
    rounded: frozenset[str] = frozenset()
    if images is not None:
        traced, rounded = _observe(job, reference, images, progress)
    else:
        size = (manifest.input.height, manifest.input.width)
        traced = graph.trace(lower(reference, artifact.format, artifact.target), *size)
    if sound is None:
        run([job], progress)
    return Reexported(sound or path, job, reference, traced, rounded, images, tuple(_findings(artifact, images)))


def _images(artifact: Artifact, calibration: Path | None) -> CalibrationSet:
    """The set that an artifact was made with, or that is given in its place."""
    if calibration is not None:
        return open_calibration(calibration)
    found = default_calibration()
    if artifact.calibration is None or artifact.calibration.sha256 != found.sha256:
        named = f"set {artifact.calibration.sha256[:12]}" if artifact.calibration else "a set that is not known"
        raise RequestError(
            f"{artifact.path} was calibrated on {named}, which is not the bundled one",
            "give the file it was exported with: --calibration FILE",
        )
    return found


def _findings(artifact: Artifact, images: CalibrationSet | None) -> Iterator[str]:
    """What about the way an artifact was made is not as in the fresh export."""
    if images is not None and artifact.calibration is not None and artifact.calibration.sha256 != images.sha256:
        theirs, ours = artifact.calibration.sha256[:12], images.sha256[:12]
        yield f"it was calibrated on set {theirs}, the fresh export that it is held against on {ours}"
    for package, version in artifact.created_with.items():
        if version != installed_version(package):
            yield f"it was made with {package} {version}, the fresh export with {installed_version(package)}"


def _observe(
    job: Job, reference: "CloFormer", images: CalibrationSet, progress: Progress
) -> tuple["fx.GraphModule", frozenset[str]]:
    """Measure ranges here, once for all files that are made of the job; the graph, and what of it leaves integers."""
    from cloformer_deploy.quantization.plan import quantized_operators
    from cloformer_deploy.quantization.preparation import CalibrationBatches, observed, save_observed
    from cloformer_deploy.quantization.sensitivity import exclusion_pattern

    (precision,) = job.outputs
    recipe = RECIPES[job.format, job.target][precision]
    batches = CalibrationBatches(
        images,
        job.preprocessing,
        step=lambda text: progress.step(f"{text} for {job.format} {precision}"),
        advance=lambda done: progress.advance(done, len(images)),
    )
    base = observed(
        reference, job.format, job.target, recipe, batches, (job.preprocessing.height, job.preprocessing.width)
    )
    if job.observed is not None:
        save_observed(base, job.observed)
    patterns = [exclusion_pattern(name) for name in job.excluded_layers[precision]]
    rounded = quantized_operators(base.traced, recipe, patterns) if recipe.rounds_outputs else frozenset()
    return base.traced, rounded


def _ios(path: Path) -> int:
    """The deployment target that a package was exported for."""
    from cloformer_deploy.backends.coreml.interpreter import Package

    version = int(Package.load(path).spec.specificationVersion) - _FIRST_SPECIFICATION
    return IOS_TARGETS[min(max(version, 0), len(IOS_TARGETS) - 1)]


def file_differences(suspect: Path, fresh: Path, format_name: str) -> Iterator[str]:
    """How a file differs from a fresh one in what can be read off it: its operators, and the ranges of its integers."""
    theirs, ours = (FORMATS[format_name].describe(path) for path in (suspect, fresh))
    for name in sorted({*theirs.operators, *ours.operators}):
        counts = theirs.operators.get(name, 0), ours.operators.get(name, 0)
        if counts[0] != counts[1]:
            yield f"it has {counts[0]} operators {name}, a fresh export {counts[1]}"
    grids = {item.name: (item.low, item.high) for item in ours.quantized if not item.constant}
    found = {item.name: (item.low, item.high) for item in theirs.quantized if not item.constant}
    shared = grids.keys() & found.keys()
    other = sum(grids[name] != found[name] for name in shared)
    if other:
        yield f"{other} of {len(shared)} activations have other ranges than in a fresh export"
