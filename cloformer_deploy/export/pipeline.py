"""The main job: a checkpoint becomes a bundle of artifacts, each of which was run back before it is listed."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from cloformer_deploy import __version__
from cloformer_deploy.backends.base import InputKind
from cloformer_deploy.backends.coreml.format import IOS_TARGETS, lowest_ios
from cloformer_deploy.backends.registry import FLOATS, FORMATS, PRECISIONS
from cloformer_deploy.bundle.bundle import Bundle, BundleWriter, digest, size_bytes
from cloformer_deploy.bundle.manifest import (
    Artifact,
    Calibration,
    CalibrationImages,
    Interface,
    Manifest,
    Weights,
    artifact_name,
    weights_name,
)
from cloformer_deploy.data import CalibrationSet, Preprocessing, default_calibration, open_calibration
from cloformer_deploy.data.calibration import rendered_calibration
from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.errors import RequestError
from cloformer_deploy.export.accuracy_limit import accuracy_limit, check_limit, state_path
from cloformer_deploy.export.float_layers import ExcludedLayers, check_unfit, read_excluded_layers
from cloformer_deploy.export.jobs import AccuracyLimit, Check, Job, run
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization.recipes import RECIPES, Recipe
from cloformer_deploy.quantization.search import DEFAULT_BUDGET
from cloformer_deploy.system.packages import installed_version, require
from cloformer_deploy.weights.zoo import bundled_checkpoints, resolve_weights

if TYPE_CHECKING:
    from cloformer_deploy.weights.checkpoints import Checkpoint

MAX_BATCH = 256


@dataclass(frozen=True)
class ExportRequest:
    """What to export; the defaults are those of the command line (which exports all formats if none is named).

    `target` None is each format's default; `batch` None is dynamic; `labels` is a text file with one
    class name a line; `calibration` is a file that `calibrate` wrote, None the set that ships; `output` None is
    `exports/{name of the weights}`. `max_drop_pp` is how much top-1 may fall on the labeled images `data` where
    activations become integers, and `budget` how many evaluations each of these files may take to hold it.
    `recipe` is a file that names layers of one artifact to leave float, as `blame` writes it.
    """

    formats: Sequence[str]
    precisions: Sequence[str] = ("fp32",)
    weights: str | None = None
    variant: str | None = None
    target: str | None = None
    input_kind: InputKind = "tensor"
    height: int = 224
    width: int = 224
    batch: int | None = 1
    labels: Path | None = None
    ios: int = 17
    calibration: Path | None = None
    output: Path | None = None
    overwrite: bool = False
    max_drop_pp: float | None = None
    data: Path | None = None
    budget: int = DEFAULT_BUDGET
    recipe: Path | None = None


@dataclass(frozen=True)
class Export:
    """A finished export: the bundle, and for each artifact written now (by path) how its run back compared."""

    bundle: Bundle
    checks: dict[str, Check]


def export(request: ExportRequest, progress: Progress) -> Export:
    """Convert, run back and list. Either all requested artifacts are added to the bundle, or none.

    Raises:
        RequestError: the request contradicts itself, or the weights, labels or output cannot be used.
        MissingPartError: a converter is not installed.
        ToolError: a converter or runtime failed.
        CheckFailedError: a file cannot be held within `max_drop_pp`.
    """
    _check_contradictions(request)
    preprocessing = Preprocessing.published(request.height, request.width)
    weights_file = resolve_weights(request.weights, request.variant)
    for name in request.formats:
        require(*(package.replace("-", "_") for package in FORMATS[name].packages), extra=FORMATS[name].extra)

    progress.step("Reading the weights")
    # Only now: torch takes seconds to import, which a refused request need not wait for.
    from cloformer_deploy.weights.checkpoints import checkpoint_bytes, load_checkpoint

    checkpoint = load_checkpoint(weights_file, request.variant)
    if request.labels is not None:
        checkpoint = dataclasses.replace(checkpoint, labels=read_labels(request.labels, checkpoint.num_classes))
    recipe = None
    if request.recipe is not None:
        recipe = read_excluded_layers(request.recipe)
        targets = {name: request.target or FORMATS[name].targets[0] for name in request.formats}
        check_unfit(recipe, str(request.recipe), checkpoint.sha256, targets, request.precisions)
    output = request.output or Path("exports", checkpoint.name)
    copy = checkpoint_bytes(checkpoint)
    copy_sha256 = hashlib.sha256(copy).hexdigest()
    weights = Weights(
        name=checkpoint.name, sha256=checkpoint.sha256, file=weights_name(copy_sha256), file_sha256=copy_sha256
    )
    head = Manifest(
        schema_version=1,
        tool_version=__version__,
        variant=checkpoint.variant,
        num_classes=checkpoint.num_classes,
        labels=checkpoint.labels,
        weights=weights,
        input=preprocessing,
    )
    calibration = _calibration(request, checkpoint, preprocessing, progress)
    if calibration is not None:
        images = CalibrationImages(sha256=calibration.sha256, images=calibration.image_digests)
        head = head.model_copy(update={"calibrations": (images,)})
    limit = None
    if request.max_drop_pp is not None and request.data is not None and calibration is not None:
        asked = (request.max_drop_pp, request.data, request.budget)
        limit = accuracy_limit(*asked, checkpoint, calibration, preprocessing, progress)
    with BundleWriter(output, head, overwrite=request.overwrite) as writer:
        jobs = [_job(request, head, name, writer.staging, output, limit, recipe) for name in request.formats]
        # Before the minutes that converting takes, not after.
        interface = Interface(kind=request.input_kind, batch=_named_batch(request.batch))
        writer.check_replacing((path.name for job in jobs for path in job.outputs.values()), interface)
        writer.staging.joinpath(weights.file).write_bytes(copy)
        done = list(zip(jobs, run(jobs, progress), strict=True))
        progress.step("Writing the bundle")
        artifacts = [_artifact(job, check, calibration) for job, checks in done for check in checks]
        by_path = {job.outputs[check.precision].name: check for job, checks in done for check in checks}
        made = Export(writer.commit(artifacts), by_path)
        for state in (path for job in jobs for path in job.states.values()):
            state.unlink(missing_ok=True)
        return made


def _job(
    request: ExportRequest,
    head: Manifest,
    name: str,
    folder: Path,
    output: Path,
    limit: AccuracyLimit | None,
    recipe: ExcludedLayers | None,
) -> Job:
    """The conversion to one format, with its files in `folder`, where the copy of the weights is."""
    item = FORMATS[name]
    target = request.target or item.targets[0]
    names = {
        precision: artifact_name(head.variant, precision, target, item.targets[0], item.suffix)
        for precision in request.precisions
    }
    return Job(
        weights=folder / head.weights.file,
        format=name,
        target=target,
        outputs={precision: folder / file for precision, file in names.items()},
        preprocessing=head.input,
        input_kind=request.input_kind,
        batch=request.batch,
        labels=head.labels,
        metadata=file_metadata(head, target),
        ios=request.ios,
        calibration=request.calibration,
        limit=limit,
        states={precision: state_path(output, file) for precision, file in names.items()} if limit else {},
        excluded_layers={recipe.precision: recipe.excluded_layers} if recipe and recipe.format == name else {},
    )


def _recipes(request: ExportRequest) -> Iterator[Recipe]:
    """Of every artifact that is asked for and has one."""
    for name in request.formats:
        recipes = RECIPES[name, request.target or FORMATS[name].targets[0]]
        yield from (recipes[precision] for precision in request.precisions if precision in recipes)


def _calibration(
    request: ExportRequest, checkpoint: "Checkpoint", preprocessing: Preprocessing, progress: Progress
) -> CalibrationSet | None:
    """The images that ranges are measured on; None where no recipe needs any."""
    if not any(recipe.needs_calibration for recipe in _recipes(request)):
        return None
    found = default_calibration() if request.calibration is None else open_calibration(request.calibration)
    make = "make one with: cloformer-deploy calibrate IMAGES --output FILE, then give --calibration FILE"
    bundled = resolve_weights(request.weights, request.variant) in bundled_checkpoints().values()
    if request.calibration is None and not (bundled and checkpoint.labels == CLASSES):
        raise RequestError(f"integers need a calibration set of images like those {checkpoint.name} is for", make)
    rendered = found.manifest.source == rendered_calibration(found.n, found.seed).name
    if rendered and checkpoint.labels != CLASSES:
        raise RequestError(f"images of the rendered task do not fit {checkpoint.name}", make)
    found.batches(preprocessing, 1)  # refuses another input size
    for warning in found.warnings:
        progress.warn(warning)
    return found


def _named_batch(batch: int | None) -> int | Literal["dynamic"]:
    return "dynamic" if batch is None else batch


def _artifact(job: Job, check: Check, calibration: CalibrationSet | None) -> Artifact:
    used, precision = None, check.precision
    if calibration and precision not in FLOATS and RECIPES[job.format, job.target][precision].needs_calibration:
        used = Calibration(sha256=calibration.sha256, n=calibration.n, seed=calibration.seed)
    path = job.outputs[precision]
    packages = ("torch", *FORMATS[job.format].packages)
    return Artifact(
        path=path.name,
        format=job.format,
        precision=precision,
        target=job.target,
        sha256=digest(path),
        bytes=size_bytes(path),
        input=Interface(kind=job.input_kind, batch=_named_batch(job.batch)),
        created_with={package: installed_version(package) or "" for package in packages},
        calibration=used,
        excluded_layers=check.accuracy.excluded_layers if check.accuracy else job.excluded_layers.get(precision, ()),
    )


def file_metadata(head: Manifest, target: str) -> dict[str, str]:
    """What each file says of itself; see `formats.metadata`."""
    return {
        "tool_version": head.tool_version,
        "variant": head.variant,
        "target": target,
        "weights_name": head.weights.name,
        "weights_sha256": head.weights.sha256,
        "labels": json.dumps(head.labels, ensure_ascii=False),
        "preprocessing": head.input.model_dump_json(),
    }


def _check_contradictions(request: ExportRequest) -> None:
    if not request.formats or not request.precisions:
        raise RequestError("no format or no precision was asked for", "name at least one of each")
    for name in request.formats:
        if name not in FORMATS:
            raise RequestError(f"there is no format {name!r}", f"choose from {', '.join(FORMATS)}")
    if request.input_kind not in get_args(InputKind):
        raise RequestError(f"there is no input kind {request.input_kind!r}", "choose tensor or image")
    if request.batch is not None and not 1 <= request.batch <= MAX_BATCH:
        raise RequestError(f"batch {request.batch} is not a number from 1 to {MAX_BATCH}", "leave it out for 1")
    for precision in request.precisions:
        if precision not in PRECISIONS:
            raise RequestError(f"there is no precision {precision!r}", f"choose from {', '.join(PRECISIONS)}")
    if request.ios not in IOS_TARGETS:
        versions = ", ".join(str(version) for version in IOS_TARGETS)
        raise RequestError(f"there is no deployment target iOS {request.ios}", f"choose one of {versions}")
    for name in request.formats:
        item = FORMATS[name]
        if request.target is not None and request.target not in item.targets:
            raise RequestError(
                f"target {request.target!r} is not one of {name}'s: {', '.join(item.targets)}",
                f"leave --target out, or name the formats it is for: {_formats_for(request.target)}",
            )
        target = request.target or item.targets[0]
        offered = (*FLOATS, *RECIPES[name, target])
        for precision in request.precisions:
            if precision not in offered:
                raise RequestError(
                    f"{name} for {target} has no precision {precision!r}", f"choose from {', '.join(offered)}"
                )
            recipe = RECIPES[name, target].get(precision)
            if name == "coreml" and recipe is not None and request.ios < lowest_ios(recipe):
                raise RequestError(
                    f"iOS {request.ios} has no operators for Core ML {precision}",
                    f"use --ios {lowest_ios(recipe)} or later, or choose from {', '.join(FLOATS)}",
                )
        if request.batch is None and not item.dynamic_batch:
            dynamic = ", ".join(other.name for other in FORMATS.values() if other.dynamic_batch)
            raise RequestError(f"{name} files have a fixed batch", f"give --batch a number, or export {dynamic} alone")
        if name == "coreml" and request.input_kind == "image" and request.batch != 1:
            raise RequestError(
                f"a Core ML image input holds one image, not {request.batch}", "use --batch 1, or --input tensor"
            )
    if request.recipe is not None and request.max_drop_pp is not None:
        raise RequestError("--recipe and --max-drop both choose what stays float", "give one of them")
    calibrated = any(recipe.needs_calibration for recipe in _recipes(request))
    check_limit(request.max_drop_pp, request.data, request.budget, calibrated)


def _formats_for(target: str) -> str:
    return ", ".join(item.name for item in FORMATS.values() if target in item.targets) or "none"


def read_labels(path: Path, num_classes: int) -> tuple[str, ...]:
    """Class names from a UTF-8 text file, one a line, in the order of the model's classes.

    Raises:
        RequestError: unreadable, a wrong number of lines, an empty line, or a name that occurs twice.
    """
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"the labels file {path} cannot be read: {error}", "give a UTF-8 text file") from error
    if len(labels) != num_classes:
        raise RequestError(f"{path} has {len(labels)} lines, the model {num_classes} classes", "give one name a line")
    for index, label in enumerate(labels):
        if not label or not label.isprintable():
            raise RequestError(f"{path}: line {index + 1} is {label!r}", "give every class a printable name")
        if label in labels[:index]:
            first = labels.index(label) + 1
            raise RequestError(f"{path}: {label!r} names lines {first} and {index + 1}", "make the names unique")
    return labels
