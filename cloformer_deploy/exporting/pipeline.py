"""Export: weights become a bundle of artifacts, each of which was run and compared before it is listed."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from cloformer_deploy import __version__
from cloformer_deploy.backends.base import CATEGORY_NAME
from cloformer_deploy.backends.registry import BACKENDS, default_target
from cloformer_deploy.bundle import Bundle, BundleWriter, digest, size_bytes
from cloformer_deploy.bundle.manifest import (
    Artifact,
    Calibration,
    CalibrationImages,
    Interface,
    Manifest,
    OutputTensor,
    Weights,
    artifact_name,
    weights_name,
)
from cloformer_deploy.data import CalibrationSet, Preprocessing, open_calibration
from cloformer_deploy.data.calibration import BUNDLED, fitting_bundled, rendered_calibration
from cloformer_deploy.data.preprocessing import color_of
from cloformer_deploy.errors import RequestError
from cloformer_deploy.exporting.accuracy_limit import accuracy_limit, state_path
from cloformer_deploy.exporting.jobs import AccuracyLimit, Check, Job, Source, registering_modules
from cloformer_deploy.exporting.labels import read_labels
from cloformer_deploy.exporting.recipe_file import RecipeFile, check_fit, read_recipe
from cloformer_deploy.exporting.request import ExportRequest, check_request
from cloformer_deploy.exporting.running import run
from cloformer_deploy.networks import configuration_keys
from cloformer_deploy.networks.base import PUBLISHED_COLOR
from cloformer_deploy.networks.program.network import SUFFIX
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.files import reachable
from cloformer_deploy.system.packages import installed_version, require
from cloformer_deploy.system.schema import first_error
from cloformer_deploy.tasks import TASKS, takes_sigmoid, task_of
from cloformer_deploy.weights.configuration import read_configuration
from cloformer_deploy.weights.zoo import bundled_checkpoints, resolve_weights

if TYPE_CHECKING:
    from cloformer_deploy.weights.checkpoints import Checkpoint, Program


@dataclass(frozen=True)
class Export:
    """A finished export: the bundle, and the check of each artifact that was written now, by its path."""

    bundle: Bundle
    checks: dict[str, Check]


def export(request: ExportRequest, progress: Progress) -> Export:
    """Convert, run and list. Either all requested artifacts are added to the bundle, or none.

    Raises:
        RequestError: the request contradicts itself, or the weights, labels or output cannot be used.
        MissingPartError: a converter is not installed.
        ToolError: a converter or runtime failed.
        CheckFailedError: a file cannot meet `max_drop_pp`.
    """
    check_request(request)
    Preprocessing.published(request.height, request.width)  # rejects other sizes
    weights_file = resolve_weights(request.weights, request.variant)
    for name in request.formats:
        backend = BACKENDS[name]
        require(*backend.modules, extra=backend.extra)
    progress.step("Reading the weights")
    # Imported here: torch takes seconds to import, which a rejected request need not wait for.
    from cloformer_deploy.validation.workers import joinable
    from cloformer_deploy.weights.checkpoints import checkpoint_bytes, load_checkpoint

    said = None if request.architecture is None else read_configuration(request.architecture, configuration_keys())
    checkpoint = load_checkpoint(weights_file, request.variant, said, headless=request.head == "none")
    if checkpoint.task not in TASKS:
        raise RequestError(f"{weights_file}: its task {checkpoint.task!r} is unknown", f"known: {', '.join(TASKS)}")
    preprocessing, assumed = _preprocessing(request, checkpoint)
    for sentence in checkpoint.notes:
        progress.step(f"{weights_file.name}: {sentence}")
    for sentence in assumed:
        hint = " (--architecture FILE says otherwise)" if sentence in checkpoint.assumed else ""
        progress.warn(f"assumed, as the weights do not say it: {sentence}{hint}")
    if request.scores == "sigmoid" and not takes_sigmoid(checkpoint.task):
        raise RequestError(f"--scores sigmoid is for classifiers, not for {checkpoint.task}", "leave --scores out")
    if request.labels is not None and not checkpoint.num_classes:
        raise RequestError("features have no classes that could be named", "leave --labels out")
    if request.labels is not None:
        checkpoint = dataclasses.replace(checkpoint, labels=read_labels(request.labels, checkpoint.num_classes))
    copy = checkpoint_bytes(checkpoint)
    head = _head(request, checkpoint, preprocessing, assumed, hashlib.sha256(copy).hexdigest())
    calibration = _calibration(request, checkpoint, preprocessing, progress)
    if calibration is not None:
        images = CalibrationImages(sha256=calibration.sha256, images=calibration.image_digests)
        head = head.model_copy(update={"calibrations": (images,)})
    recipe = _recipe(request, checkpoint)
    output = request.output or Path("exports", checkpoint.name)
    with (
        joinable(request.workers, progress) as workers,
        BundleWriter(output, head, overwrite=request.overwrite) as writer,
        reachable(writer.staging) as staging,
    ):
        source = Source.of(head, staging / head.weights.file)
        limit = None
        if request.max_drop_pp is not None and request.data is not None and calibration is not None:
            asked = (request.max_drop_pp, request.data, request.budget)
            limit = accuracy_limit(*asked, source, calibration, progress).model_copy(update={"workers": workers})
        bundled = calibration.bundled if calibration is not None else None
        jobs = [_job(request, name, source, output, bundled, limit, recipe) for name in request.formats]
        for job in jobs:  # before the minutes that converting takes, not after
            for precision, path in job.paths.items():
                wide = bool(job.excluded_layers.get(precision))
                writer.check_replacing(path.name, _interface(job), job.settled_options(precision, wide=wide))
        source.weights.write_bytes(copy)
        done = list(zip(jobs, run(jobs, progress), strict=True))
        progress.step("Writing the bundle")
        artifacts = [_artifact(job, check, calibration) for job, checks in done for check in checks]
        by_path = {job.paths[check.precision].name: check for job, checks in done for check in checks}
        made = Export(writer.commit(artifacts), by_path)
        for state in (path for job in jobs for path in job.states.values()):
            state.unlink(missing_ok=True)
        return made


def _preprocessing(request: ExportRequest, checkpoint: "Checkpoint") -> tuple[Preprocessing, tuple[str, ...]]:
    """Return the preprocessing, and what is assumed of it and of the network."""
    color, margin = color_of(checkpoint.channels), TASKS[checkpoint.task].margin
    size = (request.height, request.width) if checkpoint.program is None else checkpoint.program.size
    found = Preprocessing.published(*size, color, margin=margin)
    if checkpoint.program is not None:
        return _of_program(checkpoint.program, found)
    if found.color == PUBLISHED_COLOR:
        return found, checkpoint.assumed
    for name in request.formats if request.input_kind == "image" else ():
        if found.color not in BACKENDS[name].image_colors:
            raise RequestError(
                f"{name} files take no images of {found.channels} channels ({found.color})", "use --input tensor"
            )
    sentence = f"{found.color} images with mean {list(found.mean)} and deviation {list(found.std)}"
    return found, (*checkpoint.assumed, sentence)


def _of_program(program: "Program", found: Preprocessing) -> tuple[Preprocessing, tuple[str, ...]]:
    """Return the preprocessing of a network of one's own, and what is assumed of it."""
    if program.mean is None or program.std is None:
        return found, (f"{found.color} images with mean {list(found.mean)} and deviation {list(found.std)}",)
    try:
        return Preprocessing.model_validate(found.model_dump() | {"mean": program.mean, "std": program.std}), ()
    except ValidationError as error:
        raise RequestError(f"the normalization cannot be used: {first_error(error)}", "give mean and std") from error


def _head(
    request: ExportRequest,
    checkpoint: "Checkpoint",
    preprocessing: Preprocessing,
    assumed: tuple[str, ...],
    copy_sha256: str,
) -> Manifest:
    """Return the manifest without artifacts."""
    return Manifest(
        schema_version=2,
        tool_version=__version__,
        task=checkpoint.task,
        scores=request.scores,
        network=checkpoint.network,
        variant=checkpoint.variant,
        architecture=checkpoint.architecture,
        assumed=assumed,
        labels=checkpoint.labels,
        weights=Weights(
            name=checkpoint.name,
            sha256=checkpoint.sha256,
            file=weights_name(copy_sha256, SUFFIX if checkpoint.program is not None else ".safetensors"),
            file_sha256=copy_sha256,
        ),
        preprocessing=preprocessing,
    )


def _recipe(request: ExportRequest, checkpoint: "Checkpoint") -> RecipeFile | None:
    if request.recipe is None:
        return None
    found = read_recipe(request.recipe)
    targets = {name: target.name for name, target in request.targets()}
    check_fit(found, str(request.recipe), checkpoint.sha256, targets, request.precisions)
    return found


def _job(
    request: ExportRequest,
    name: str,
    source: Source,
    output: Path,
    bundled: str | None,
    limit: AccuracyLimit | None,
    recipe: RecipeFile | None,
) -> Job:
    """Return the conversion to one format, with its files beside the copy of the weights."""
    backend, target = BACKENDS[name], request.target_name(name)
    names = {
        precision: artifact_name(source.variant, precision, target, default_target(name), backend.suffix)
        for precision in request.precisions
    }
    mine = recipe if recipe is not None and recipe.format == name else None
    return Job(
        source=source,
        format=name,
        target=target,
        paths={precision: source.weights.parent / file for precision, file in names.items()},
        input_kind=request.input_kind,
        batch=request.batch,
        options=request.options_of(name).model_dump(),
        calibration=request.calibration,
        bundled=bundled,
        limit=limit,
        states={precision: state_path(output, file) for precision, file in names.items()} if limit else {},
        excluded_layers={mine.precision: mine.excluded_layers} if mine is not None else {},
        tunings={mine.precision: mine.tuning} if mine is not None and mine.tuning is not None else {},
        compile_for=tuple(request.compile_for),
        modules=registering_modules(name, source),
    )


def _calibration(
    request: ExportRequest, checkpoint: "Checkpoint", preprocessing: Preprocessing, progress: Progress
) -> CalibrationSet | None:
    """Return the set that ranges are measured on; None where no recipe needs one."""
    if not any(target.calibrated(precision) for _, target in request.targets() for precision in request.precisions):
        return None
    make = "make one with: cloformer-deploy calibrate IMAGES --output FILE, then give --calibration FILE"
    bundled = resolve_weights(request.weights, request.variant) in bundled_checkpoints().values()
    fitting = fitting_bundled(checkpoint.task, checkpoint.labels, checkpoint.trained_labels)
    if request.calibration is None and not (bundled and fitting):
        raise RequestError(f"integer activations need a calibration set of images like {checkpoint.name}'s", make)
    found = open_calibration(request.calibration, fitting)
    rendered = {name: rendered_calibration(name, found.n, found.seed).name for name in BUNDLED}
    if found.manifest.source in rendered.values() and (fitting is None or found.manifest.source != rendered[fitting]):
        raise RequestError(f"rendered images ({found.manifest.source}) do not fit {checkpoint.name}", make)
    found.batches(preprocessing, 1)  # rejects another input size
    for warning in found.warnings:
        progress.warn(warning)
    return found


def _named_batch(batch: int | None) -> int | Literal["dynamic"]:
    return "dynamic" if batch is None else batch


def _interface(job: Job) -> Interface:
    return Interface(kind=job.input_kind, batch=_named_batch(job.batch))


def _artifact(job: Job, check: Check, calibration: CalibrationSet | None) -> Artifact:
    backend, precision = BACKENDS[job.format], check.precision
    used = None
    if calibration is not None and backend.targets[job.target].calibrated(precision):
        used = Calibration(sha256=calibration.sha256, n=calibration.n, seed=calibration.seed)
    path = job.paths[precision]
    names = {CATEGORY_NAME, *(output.name for output in task_of(job.source).outputs)}
    if backend.suppression is not None:
        names.update(backend.suppression.outputs)
    outputs = [item for item in backend.describe(path).outputs if item.name in names]
    excluded = check.accuracy.excluded_layers if check.accuracy else job.excluded_layers.get(precision, ())
    return Artifact(
        path=path.name,
        format=job.format,
        precision=precision,
        target=job.target,
        sha256=digest(path),
        bytes=size_bytes(path),
        input=_interface(job),
        outputs=tuple(OutputTensor(name=item.name, shape=item.shape, dtype=item.dtype) for item in outputs),
        options=job.settled_options(precision, wide=check.wide),
        created_with={package: installed_version(package) or "" for package in ("torch", *backend.packages)},
        calibration=used,
        excluded_layers=excluded,
        tuning=job.tunings.get(precision),
        npus=check.npus,
    )
