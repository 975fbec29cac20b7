"""The process that runs one conversion job: `python -m cloformer_deploy.exporting.worker`.

One line of JSON on standard input is the job; lines of JSON on standard output are its events. Converters print to
standard error.
"""

import gc
import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cloformer_deploy.backends.base import ExportSpec
from cloformer_deploy.backends.registry import BACKENDS, lower_for, target_of
from cloformer_deploy.backends.target import FLOATS
from cloformer_deploy.data import open_calibration
from cloformer_deploy.errors import CloformerDeployError, ToolError
from cloformer_deploy.exporting.checks import check_file
from cloformer_deploy.exporting.jobs import Accuracy, Job
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.subprocesses import end_with_parent
from cloformer_deploy.tasks import task_of

if TYPE_CHECKING:
    from torch import nn

    from cloformer_deploy.quantization.measured import Measured
    from cloformer_deploy.quantization.preparation import CalibrationBatches, Observed, Prepared

GARBAGE_THRESHOLDS = (100_000, 20, 20)
"""For `gc.set_threshold`. Tracing makes millions of objects that live on; with Python's own, to collect takes 4 to 10 %
of the time and saves no memory."""


class Events:
    """Progress and results as lines of JSON. See `Progress`."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def send(self, event: str, **values: Any) -> None:
        """Write one event."""
        print(json.dumps({"event": event, **values}), file=self._file)

    def step(self, text: str) -> None:
        """See `Progress.step`."""
        self.send("step", text=text)

    def advance(self, done: int, total: int) -> None:
        """See `Progress.advance`."""
        self.send("advance", done=done, total=total)

    def warn(self, text: str) -> None:
        """See `Progress.warn`."""
        self.send("warn", text=text)

    def lane(self) -> AbstractContextManager[Progress]:
        """See `Progress.lane`: a worker does one thing at a time."""
        return nullcontext(self)


def main() -> None:
    """Run the job on standard input."""
    events = Events(os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = Job.model_validate_json(sys.stdin.readline())
    end_with_parent()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    for module in job.modules:
        importlib.import_module(module)
    try:
        _Conversion(job, events).run()
    except CloformerDeployError as error:
        events.send("error", exit_code=error.exit_code, message=error.message, hint=error.hint)


class _Conversion:
    """One job at work."""

    def __init__(self, job: Job, events: Events) -> None:
        import torch

        from cloformer_deploy.weights.checkpoints import build_from_copy

        torch.manual_seed(0)
        source = job.source
        self.job, self.events = job, events
        self.network, self.task = NETWORKS[source.network], task_of(source)
        self.reference = build_from_copy(source.weights, source.network, source.architecture)
        self.measured: Measured | None = None

    def run(self) -> None:
        """Write and check every file; those first that other jobs may wait for."""
        for precision in self.job.paths.keys() - FLOATS:
            self._quantize(precision)
        alike: dict[tuple[str, ...], dict[str, Path]] = {}
        for precision, path in self.job.paths.items():
            if precision in FLOATS:
                alike.setdefault(self.job.target_for(precision).rewrites, {})[precision] = path
        for floats in alike.values():
            target = self.job.target_for(next(iter(floats)))
            self._write(self._spec(lower_for(self.reference, target)), floats)

    def _spec(self, model: "nn.Module", prepared: "Prepared | None" = None) -> ExportSpec:
        job, backend = self.job, BACKENDS[self.job.format]
        return ExportSpec(
            model=model,
            title=f"{self.network.title}-{job.source.variant}, {self.task.name}",
            outputs=self.task.outputs,
            class_logits=self.task.class_logits,
            pixel_logits=self.task.pixel_logits,
            cells=self.task.cells,
            scores=job.source.scores,
            preprocessing=job.source.preprocessing,
            input_kind=job.input_kind,
            batch=job.batch,
            labels=job.source.labels,
            metadata=job.source.metadata(job.target),
            options=backend.options.model_validate(job.options),
            quantized=prepared,
            category_map=backend.category_map,
            suppression=backend.suppression,
        )

    def _quantize(self, precision: str) -> None:
        """Write a quantized file, under the job's accuracy limit if its activations become integers."""
        from cloformer_deploy.quantization import graph, preparation
        from cloformer_deploy.quantization.sensitivity import check_exclusions, exclusion_pattern

        job = self.job
        target = job.target_for(precision)
        recipe, path = target.recipes[precision], job.paths[precision]
        if not recipe.needs_calibration:
            made = preparation.weights_only(lower_for(self.reference, target), recipe)
            self._write(self._spec(made.model, made), {precision: path})
            return
        calibration = open_calibration(job.calibration, job.bundled)
        images = preparation.CalibrationBatches(
            calibration, job.source.preprocessing, f"{job.format} {precision}", self.events
        )
        names = job.excluded_layers.get(precision, ())
        known = job.measured is not None and job.measured.exists()
        if names and not known:  # before minutes of calibration
            shape = job.source.preprocessing.shape
            outline = preparation.unequalized(self.reference, self.network, target.integer_rewrites, shape)
            check_exclusions(self.network, outline, recipe, names)
        base = self._observed(precision, images)
        if known:
            check_exclusions(self.network, base.traced, recipe, names)
        floats = graph.unknown(base.traced)
        if floats:
            told = ", ".join(f"{name} ({count})" for name, count in floats.items())
            self.events.warn(f"{job.format} {precision}: operators that no recipe knows stay float: {told}")
        if job.limit is None:
            made = preparation.prepared(base, images, [exclusion_pattern(self.network, name) for name in names])
            self._write(self._spec(made.model, made), {precision: path})
            return
        from cloformer_deploy.exporting.accuracy_search import AccuracySearch

        def write(excluded: Sequence[str], candidate: Path) -> ExportSpec:
            patterns = [exclusion_pattern(self.network, block) for block in excluded]
            made = preparation.prepared(base, images, patterns)
            spec = self._spec(made.model, made)
            for _ in self._converted(spec, {precision: candidate}):
                pass
            return spec

        search = AccuracySearch(job, job.limit, precision, base, calibration.sha256, write, self.events)
        spec, accuracy = search.run()
        self._check(path, precision, spec, accuracy)

    def _observed(self, precision: str, images: "CalibrationBatches") -> "Observed":
        """Observe the model for a precision; measure only what was not measured before, by this or another job."""
        import torch

        from cloformer_deploy.quantization import preparation
        from cloformer_deploy.quantization.measured import await_measured

        job = self.job
        if self.measured is None and job.measured is not None and not job.measures_for:
            if not job.measured.exists():
                self.events.step(f"Waiting for ranges for {job.format} {precision}")
            self.measured = await_measured(job.measured)
        others = [job.target_for(other).recipes[other] for other in job.calibrated]
        others += [target_of(key.format, key.target).recipes[key.precision] for key in job.measures_for]
        target, threads = job.target_for(precision), torch.get_num_threads()
        if job.measures_for:  # the others wait, and leave their cores
            torch.set_num_threads(job.measuring_threads)
        base = preparation.observed(
            self.reference,
            self.network,
            target.integer_rewrites,
            target.recipes[precision],
            images,
            self.measured,
            others,
        )
        torch.set_num_threads(threads)
        if self.measured is None and len(others) > 1:
            self.measured = preparation.measured(base, images)
        if job.measures_for and job.measured is not None and not job.measured.exists() and self.measured is not None:
            self.measured.save(job.measured)
        return base

    def _write(self, spec: ExportSpec, paths: Mapping[str, Path]) -> None:
        """Write files of one model, run each, and report how far from the reference it is."""
        for precision in self._converted(spec, paths):
            self._check(paths[precision], precision, spec)

    def _check(self, path: Path, precision: str, spec: ExportSpec, accuracy: Accuracy | None = None) -> None:
        self.events.step(f"Running {self.job.format} {precision}")
        check = check_file(path, self.job, precision, self.reference, spec, self.events)
        self.events.send("checked", **check.model_copy(update={"accuracy": accuracy}).model_dump())

    def _converted(self, spec: ExportSpec, paths: Mapping[str, Path]) -> Iterator[str]:
        """Yield each precision once its file is written; turn what the converter raises into a `ToolError`."""
        name = self.job.format
        written = BACKENDS[name].convert(spec, paths, self.events)
        for precision in paths:
            self.events.step(f"Converting to {name} {precision}")
            try:
                done = next(written)
            except CloformerDeployError:
                raise
            except Exception as error:
                cause = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
                raise ToolError(f"conversion to {name} {precision} failed: {cause}", "report this") from error
            if done != precision:
                raise ToolError(f"conversion to {name} gave {done} where {precision} was due", "report this")
            yield precision


if __name__ == "__main__":
    main()
