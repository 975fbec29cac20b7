"""A request for an export, and its checks before any work begins."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from cloformer_deploy.backends.base import InputKind
from cloformer_deploy.backends.options import Options
from cloformer_deploy.backends.registry import BACKENDS, all_precisions, default_target, target_of
from cloformer_deploy.backends.target import ArtifactKey, Target
from cloformer_deploy.errors import RequestError
from cloformer_deploy.exporting.accuracy_limit import check_limit
from cloformer_deploy.npu import npu_of
from cloformer_deploy.quantization.search import DEFAULT_BUDGET
from cloformer_deploy.tasks.base import Scores

MAX_BATCH = 256
Head = Literal["keep", "none"]


@dataclass(frozen=True)
class ExportRequest:
    """Files to export. The defaults are those of the command line, which exports all formats if none is named.

    Attributes:
        formats: keys of `backends.registry.BACKENDS`.
        precisions: of each format.
        weights: weights file, or name of bundled weights; None is the default bundled weights.
        variant: configuration that the weights must be of; None accepts any.
        architecture: configuration file of the network; None takes what the weights say.
        head: `none` leaves the head out; the files give features.
        scores: what turns a classifier's logits into scores.
        target: of each format; None is each format's default.
        input_kind: see `backends.base.ExportSpec`.
        height, width: input size.
        batch: batch size; None is dynamic.
        labels: text file with one class name per line; None takes the weights' own.
        options: options of formats by name, such as `ios`; each format takes those that it has.
        calibration: file that `calibrate` wrote; None is the set that ships.
        output: the bundle; None is `exports/{name of the weights}`.
        overwrite: replace what is there.
        max_drop_pp: accuracy limit of files with integer activations, percentage points; None is no limit.
        data: labeled images for the limit.
        budget: evaluations that the search for one such file may use.
        workers: run the images of the searches, see `validation.workers.workers_of`; None is this machine's processes.
        recipe: recipe file of one artifact, as `blame` and `tune` write it.
        compile_for: NPUs, keys of `npu.NPUS`, whose compiled forms are kept beside the files for them.
    """

    formats: Sequence[str]
    precisions: Sequence[str] = ("fp32",)
    weights: str | None = None
    variant: str | None = None
    architecture: Path | None = None
    head: Head = "keep"
    scores: Scores = "softmax"
    target: str | None = None
    input_kind: InputKind = "tensor"
    height: int = 224
    width: int = 224
    batch: int | None = 1
    labels: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    calibration: Path | None = None
    output: Path | None = None
    overwrite: bool = False
    max_drop_pp: float | None = None
    data: Path | None = None
    budget: int = DEFAULT_BUDGET
    workers: str | None = None
    recipe: Path | None = None
    compile_for: Sequence[str] = ()

    def target_name(self, format_name: str) -> str:
        """Return the requested target of a format, or its default."""
        return self.target or default_target(format_name)

    def targets(self) -> Iterator[tuple[str, Target]]:
        """Yield each requested format with its target."""
        for name in self.formats:
            yield name, target_of(name, self.target_name(name))

    def options_of(self, format_name: str) -> Options:
        """Return the options of a format.

        Raises:
            RequestError: a value is not one of the format's.
        """
        schema = BACKENDS[format_name].options
        given = {name: value for name, value in self.options.items() if name in schema.model_fields}
        try:
            return schema.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            reason = str(first["msg"]).removeprefix("Value error, ")
            raise RequestError(f"--{first['loc'][0]} {first['input']}: {reason}", "see export --help") from error


def check_request(request: ExportRequest) -> None:
    """Check a request for contradictions, before torch is imported or a file is read.

    Raises:
        RequestError: it contradicts itself, or asks for what does not exist.
    """
    if not request.formats or not request.precisions:
        raise RequestError("no format or no precision was asked for", "name at least one of each")
    for name in request.formats:
        if name not in BACKENDS:
            raise RequestError(f"there is no format {name!r}", f"choose from {', '.join(BACKENDS)}")
    for option, value, choices in (
        ("--input", request.input_kind, get_args(InputKind)),
        ("--head", request.head, get_args(Head)),
        ("--scores", request.scores, get_args(Scores)),
    ):
        if value not in choices:
            raise RequestError(f"{option} {value!r} is unknown", f"choose {' or '.join(choices)}")
    if request.batch is not None and not 1 <= request.batch <= MAX_BATCH:
        raise RequestError(f"batch {request.batch} must be 1 to {MAX_BATCH}", "leave it out for 1")
    for precision in request.precisions:
        if precision not in all_precisions():
            raise RequestError(f"there is no precision {precision!r}", f"choose from {', '.join(all_precisions())}")
    _check_options(request)
    for name in request.formats:
        _check_format(request, name)
    for device in request.compile_for:
        _check_compiled(request, device)
    if request.recipe is not None and request.max_drop_pp is not None:
        raise RequestError("--recipe and --max-drop both choose what stays float", "give one of them")
    calibrated = any(target.calibrated(item) for _, target in request.targets() for item in request.precisions)
    check_limit(request.max_drop_pp, request.data, request.budget, request.workers, calibrated)


def _check_options(request: ExportRequest) -> None:
    """Check every option, also those of formats that are not asked for: a wrong value is a mistake in any case."""
    known = {name for item in BACKENDS.values() for name in item.options.model_fields}
    unknown = [name for name in request.options if name not in known]
    if unknown:
        raise RequestError(f"no format has an option {unknown[0]!r}", f"choose from {', '.join(sorted(known))}")
    for name in BACKENDS:
        request.options_of(name)


def _check_compiled(request: ExportRequest, device: str) -> None:
    npu = npu_of(device)
    kinds = (
        ArtifactKey(name, precision, request.target_name(name))
        for name in request.formats
        for precision in request.precisions
    )
    if not any(npu.takes(kind) for kind in kinds):
        raise RequestError(f"none of the files is for {npu.title}", f"add: {npu.export_options}")
    lack = npu.missing()
    if lack is not None:
        raise lack


def _check_format(request: ExportRequest, name: str) -> None:
    backend = BACKENDS[name]
    options = request.options_of(name)
    if request.target is not None and request.target not in backend.targets:
        able = ", ".join(item.name for item in BACKENDS.values() if request.target in item.targets) or "none"
        raise RequestError(
            f"target {request.target!r} is not one of {name}'s: {', '.join(backend.targets)}",
            f"leave --target out, or name the formats it is for: {able}",
        )
    target = target_of(name, request.target_name(name))
    for precision in request.precisions:
        if precision not in target.precisions:
            raise RequestError(
                f"{name} for {target.name} has no precision {precision!r}",
                f"choose from {', '.join(target.precisions)}",
            )
    if request.batch is None and not backend.dynamic_batch:
        dynamic = ", ".join(other.name for other in BACKENDS.values() if other.dynamic_batch)
        raise RequestError(f"{name} files have a fixed batch", f"give --batch a number, or export {dynamic} alone")
    backend.check(options, target, request.precisions, request.input_kind, request.batch)
