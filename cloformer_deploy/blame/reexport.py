"""Export an artifact again from a bundle's weights, in the same way, as the reference of `blame`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloformer_deploy.backends.registry import BACKENDS, lower_for
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import CalibrationSet, open_calibration
from cloformer_deploy.data.calibration import bundled_of
from cloformer_deploy.errors import RequestError
from cloformer_deploy.exporting.jobs import Job, Source, registering_modules
from cloformer_deploy.exporting.running import run
from cloformer_deploy.networks import NETWORKS, Network
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.packages import installed_version, require
from cloformer_deploy.tasks import Task, task_of
from cloformer_deploy.validation.bundle_work import reference_model

if TYPE_CHECKING:
    from torch import fx, nn


@dataclass(frozen=True)
class Reexported:
    """A re-exported file and the model that it was made of.

    Attributes:
        path: the file.
        job: the job that made it; jobs like it make it with more layers excluded.
        network: family of the model.
        task: the model's.
        reference: PyTorch's model.
        traced: the lowered model as a graph, in float, before rewrites that only integers need.
        rounded: names of the nodes of `traced` whose outputs are integers.
        calibration: the set that its ranges were measured on; None where it has none.
        findings: what differs in the way it was made, in sentences.
    """

    path: Path
    job: Job
    network: Network
    task: Task
    reference: "nn.Module"
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
        artifact: its manifest entry.
        folder: where the new file goes.
        calibration: a file that `calibrate` wrote; None is the set that ships, if the artifact was made with it.
        progress: receives each step.
        sound: a file that is known to equal the re-export; nothing is converted then.

    Raises:
        BundleError: the weights are not those of the manifest.
        RequestError: the calibration set is needed and was not given, or is damaged.
        MissingPartError: the converter is not installed.
        ToolError: it failed.
    """
    from cloformer_deploy.quantization import graph

    bundle.verify_weights()
    manifest, precision, backend = bundle.manifest, artifact.precision, BACKENDS[artifact.format]
    require(*backend.modules, extra=backend.extra)
    calibrated = backend.targets[artifact.target].calibrated(precision)
    images = _images(artifact, calibration) if calibrated else None
    source = Source.of(manifest, bundle.weights_path)
    network, task = NETWORKS[source.network], task_of(source)
    reference = reference_model(bundle)
    path = folder / artifact.path
    job = Job(
        source=source,
        format=artifact.format,
        target=artifact.target,
        paths={precision: path},
        input_kind=artifact.input.kind,
        batch=None if artifact.input.batch == "dynamic" else artifact.input.batch,
        options=dict(artifact.options),
        calibration=calibration,
        bundled=images.bundled if images is not None else None,
        excluded_layers={precision: artifact.excluded_layers},
        tunings={precision: artifact.tuning} if artifact.tuning is not None else {},
        measured=folder / "measured.pt" if calibrated else None,
        modules=registering_modules(artifact.format, source),
    )
    rounded: frozenset[str] = frozenset()
    if images is not None:
        traced, rounded = _observe(job, network, reference, images, progress)
    else:
        traced = graph.trace(lower_for(reference, artifact.tuned_target), *source.preprocessing.shape)
    if sound is None:
        run([job], progress)
    findings = tuple(_findings(artifact, images))
    return Reexported(sound or path, job, network, task, reference, traced, rounded, images, findings)


def _images(artifact: Artifact, calibration: Path | None) -> CalibrationSet:
    """Return the set that an artifact was made with, or that is given in its place."""
    if calibration is not None:
        return open_calibration(calibration)
    found = bundled_of(artifact.calibration.sha256) if artifact.calibration else None
    if found is None:
        named = f"set {artifact.calibration.sha256[:12]}" if artifact.calibration else "a set that is not known"
        raise RequestError(
            f"{artifact.path} was calibrated on {named}, which is no bundled one",
            "give the file it was exported with: --calibration FILE",
        )
    return found


def _findings(artifact: Artifact, images: CalibrationSet | None) -> Iterator[str]:
    """Yield how an artifact was made differently from the re-export."""
    if images is not None and artifact.calibration is not None and artifact.calibration.sha256 != images.sha256:
        theirs, ours = artifact.calibration.sha256[:12], images.sha256[:12]
        yield f"it was calibrated on set {theirs}, the re-export that it is compared with on {ours}"
    for package, version in artifact.created_with.items():
        if version != installed_version(package):
            yield f"it was made with {package} {version}, the re-export with {installed_version(package)}"


def _observe(
    job: Job, network: Network, reference: "nn.Module", images: CalibrationSet, progress: Progress
) -> tuple["fx.GraphModule", frozenset[str]]:
    """Measure ranges once for all files that are made by the job; return the graph and the nodes that are rounded."""
    from cloformer_deploy.quantization.plan import quantized_operators
    from cloformer_deploy.quantization.preparation import CalibrationBatches, measured, observed
    from cloformer_deploy.quantization.sensitivity import exclusion_pattern

    (precision,) = job.paths
    target = job.target_for(precision)
    recipe = target.recipes[precision]
    batches = CalibrationBatches(images, job.source.preprocessing, f"{job.format} {precision}", progress)
    base = observed(reference, network, target.integer_rewrites, recipe, batches)
    if job.measured is not None:
        measured(base, batches).save(job.measured)
    patterns = [exclusion_pattern(network, name) for name in job.excluded_layers[precision]]
    rounded = quantized_operators(base.traced, recipe, patterns) if recipe.rounds_outputs else frozenset()
    return base.traced, rounded


def file_differences(suspect: Path, reexported: Path, format_name: str) -> Iterator[str]:
    """Yield how a file differs from a re-export in its operators and in the ranges of its integers."""
    theirs, ours = (BACKENDS[format_name].describe(path) for path in (suspect, reexported))
    for name in sorted({*theirs.operators, *ours.operators}):
        counts = theirs.operators.get(name, 0), ours.operators.get(name, 0)
        if counts[0] != counts[1]:
            yield f"it has {counts[0]} operators {name}, a re-export {counts[1]}"
    grids = {item.name: (item.low, item.high) for item in ours.quantized if not item.constant}
    found = {item.name: (item.low, item.high) for item in theirs.quantized if not item.constant}
    shared = grids.keys() & found.keys()
    other = sum(grids[name] != found[name] for name in shared)
    if other:
        yield f"{other} of {len(shared)} activations have other ranges than in a re-export"
