"""The process that runs one conversion job: `python -m cloformer_deploy.export.worker`.

One line of JSON on standard input is the job; lines of JSON on standard output are its events. Whatever a
converter prints goes to standard error.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.backends.base import Graph
from cloformer_deploy.backends.registry import FLOATS, FORMATS
from cloformer_deploy.data import default_calibration, open_calibration
from cloformer_deploy.errors import CloformerDeployError, ToolError
from cloformer_deploy.export.jobs import Accuracy, Check, Job
from cloformer_deploy.quantization.recipes import RECIPES
from cloformer_deploy.system.subprocesses import end_with_parent

if TYPE_CHECKING:
    from cloformer_deploy.networks.cloformer import CloFormer
    from cloformer_deploy.quantization.preparation import Prepared

Tell = Callable[..., None]
"""Sends an event: its name, and its values by keyword."""

PROBE_IMAGES = 3
SQNR_FLOOR_DB: Mapping[bool, float] = {True: 30.0, False: 5.0}
"""Below this a float file (True), or one with integers, does not compute the model at all; how much drift is too much
is for `validate` to say. The probe images are rendered ones, which the model may know nothing of."""


def main() -> None:
    """Run the job on standard input."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = Job.model_validate_json(sys.stdin.readline())
    end_with_parent()

    def tell(event: str, **values: Any) -> None:
        print(json.dumps({"event": event, **values}), file=events)

    try:
        _convert(job, tell)
    except CloformerDeployError as error:
        tell("error", exit_code=error.exit_code, message=error.message, hint=error.hint)


def _convert(job: Job, tell: Tell) -> None:
    import torch

    from cloformer_deploy.lowering import lower
    from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint

    torch.manual_seed(0)
    reference = build_model(load_checkpoint(job.weights))
    floats = {precision: path for precision, path in job.outputs.items() if precision in FLOATS}
    if floats:
        _write(_graph(job, lower(reference, job.format, job.target)), floats, job, reference, tell)
    for precision in job.outputs.keys() - floats.keys():
        _quantize(reference, job, precision, tell)


def _graph(job: Job, model: "CloFormer", prepared: "Prepared | None" = None) -> Graph:
    return Graph(
        model=model,
        preprocessing=job.preprocessing,
        input_kind=job.input_kind,
        batch=job.batch,
        labels=job.labels,
        metadata=job.metadata,
        ios=job.ios,
        quantized=prepared,
    )


def _quantize(reference: "CloFormer", job: Job, precision: str, tell: Tell) -> None:
    """Write a file with integers, under the job's accuracy limit where its recipe has ranges."""
    from cloformer_deploy.quantization.preparation import (
        CalibrationBatches,
        load_observed,
        observed,
        prepared,
        weights_only,
    )
    from cloformer_deploy.quantization.sensitivity import check_needless, exclusion_pattern

    recipe, output = RECIPES[job.format, job.target][precision], job.outputs[precision]
    size = (job.preprocessing.height, job.preprocessing.width)
    if not recipe.needs_calibration:
        made = weights_only(reference, job.format, job.target, recipe, size)
        _write(_graph(job, made.model, made), {precision: output}, job, reference, tell)
        return
    images = default_calibration() if job.calibration is None else open_calibration(job.calibration)
    batches = CalibrationBatches(
        images,
        job.preprocessing,
        step=lambda text: tell("step", text=f"{text} for {job.format} {precision}"),
        advance=lambda done: tell("advance", done=done, total=len(images)),
    )
    if job.observed is not None:
        base = load_observed(job.observed, recipe, size)
    else:
        base = observed(reference, job.format, job.target, recipe, batches, size)
    if job.limit is None:
        names = job.excluded_layers.get(precision, ())
        check_needless(base.traced, recipe, names)
        made = prepared(base, batches, [exclusion_pattern(name) for name in names])
        _write(_graph(job, made.model, made), {precision: output}, job, reference, tell)
        return
    from cloformer_deploy.export.accuracy_search import AccuracySearch

    def write(excluded_layers: Sequence[str], path: Path) -> Graph:
        made = prepared(base, batches, [exclusion_pattern(block) for block in excluded_layers])
        graph = _graph(job, made.model, made)
        for _ in _converted(graph, {precision: path}, job, tell):
            pass
        return graph

    graph, accuracy = AccuracySearch(job, job.limit, precision, reference, base, images.sha256, write, tell).hold()
    _check(output, job, precision, reference, graph, tell, accuracy)


def _write(graph: Graph, outputs: Mapping[str, Path], job: Job, reference: "CloFormer", tell: Tell) -> None:
    """Write files of one model, run each back, and tell how far from the reference it was."""
    for precision in _converted(graph, outputs, job, tell):
        _check(outputs[precision], job, precision, reference, graph, tell)


def _check(
    path: Path,
    job: Job,
    precision: str,
    reference: "CloFormer",
    graph: Graph,
    tell: Tell,
    accuracy: Accuracy | None = None,
) -> None:
    tell("step", text=f"Running {job.format} {precision}")
    check = check_file(path, job, precision, reference, graph)
    tell("checked", **check.model_copy(update={"accuracy": accuracy}).model_dump())


def _converted(graph: Graph, outputs: Mapping[str, Path], job: Job, tell: Tell) -> Iterator[str]:
    """The precisions whose files are written, one after the other."""
    written = FORMATS[job.format].convert(graph, outputs, lambda text: tell("warning", text=text))
    return _each(written, outputs, job, tell)


def _each(written: Iterator[str], outputs: Iterable[str], job: Job, tell: Tell) -> Iterator[str]:
    """Iterate the converter, turning what it raises into a `ToolError`; each wait is a step."""
    for precision in outputs:
        tell("step", text=f"Converting to {job.format} {precision}")
        try:
            done = next(written)
        except CloformerDeployError:
            raise
        except Exception as error:
            cause = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            raise ToolError(f"conversion to {job.format} {precision} failed: {cause}", "report this") from error
        if done != precision:
            raise ToolError(f"conversion to {job.format} gave {done} where {precision} was due", "report this")
        yield precision


def check_file(path: Path, job: Job, precision: str, reference: "CloFormer", graph: Graph) -> Check:
    """Load a file, run it on probe images and compare it with PyTorch.

    Raises:
        ToolError: it does not run, gives NaN or Inf where PyTorch does not, or computes something else.
    """
    from cloformer_deploy.backends.registry import runtime_for
    from cloformer_deploy.data import probe_images
    from cloformer_deploy.validation import Drift, artifact_logits, reference_logits, weight_failures

    runtime = runtime_for(job.format)
    session = runtime.open(path)
    pixels = probe_images(PROBE_IMAGES, job.preprocessing)
    drift = Drift()
    expected = reference_logits(reference, pixels, job.preprocessing)
    try:
        found = artifact_logits(session, pixels, job.preprocessing, job.input_kind, reference.num_classes)
    except ToolError as error:
        raise ToolError(f"{path.name}: {error.message}", error.hint) from error
    drift.update(expected, found, None)
    failures = weight_failures(path, job.format, graph.model)
    if failures:
        raise ToolError(f"{path.name} does not hold PyTorch's weights: {failures[0]}", "report this")
    if drift.non_finite or drift.sqnr_db < SQNR_FLOOR_DB[precision in FLOATS]:
        what = f"NaN or Inf on {drift.non_finite}" if drift.non_finite else f"{drift.sqnr_db:.1f} dB SQNR over"
        raise ToolError(
            f"{path.name} does not compute what PyTorch does: {what} of {drift.n} probe images",
            "choose a higher precision; if this is fp32, report it",
        )
    return Check(
        precision=precision,
        runtime=runtime.name,
        n=drift.n,
        max_abs_diff=drift.max_abs_diff,
        sqnr_db=drift.sqnr_db,
    )


if __name__ == "__main__":
    main()
