"""Conversions as jobs for processes of their own.

Converters print, warn, use much memory and sometimes crash. In a process of its own their output goes to a log, their
memory is freed, and a crash becomes an error message. The process also runs each file that it wrote and compares it
with PyTorch: a file that was not loaded and run is not done.
"""

import contextlib
import json
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any

from pydantic import Field

from cloformer_deploy.backends.base import InputKind
from cloformer_deploy.backends.registry import BACKENDS, recipe_of
from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.bundle.manifest import Manifest, NpuCheck, Scalar
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import CheckFailedError, CloformerDeployError, MissingPartError, RequestError, ToolError
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.cores import threads_each, usable_cores
from cloformer_deploy.system.schema import AnyPath, Strict
from cloformer_deploy.system.subprocesses import Process, own_process
from cloformer_deploy.tasks import Scores, task_of

LOG_LINES_SHOWN = 3
_OF_MANIFEST = ("network", "variant", "architecture", "task", "scores", "labels", "preprocessing")


class AccuracyLimit(Strict):
    """A limit on the drop of the task's metric, for each quantized file of a job.

    Attributes:
        max_drop_pp: largest drop, percentage points.
        budget: evaluations that the search for one file may use.
        data: labeled images.
        data_sha256: of their targets and pixels.
    """

    max_drop_pp: float
    budget: int
    data: AnyPath
    data_sha256: str


class Source(Strict):
    """The origin of files: the canonical copy of the weights, and the manifest's facts about it.

    Attributes:
        weights: path of the copy, made by this process or checked against its manifest.
    """

    weights: AnyPath
    weights_name: str
    weights_sha256: str
    tool_version: str
    network: str
    variant: str
    architecture: Mapping[str, Any]
    task: str
    scores: Scores
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing

    @property
    def num_classes(self) -> int:
        """Outputs of the head."""
        return int(self.architecture["num_classes"])

    @classmethod
    def of(cls, manifest: Manifest, weights: Path) -> "Source":
        """Return the source that a manifest describes."""
        return cls(
            weights=weights,
            weights_name=manifest.weights.name,
            weights_sha256=manifest.weights.sha256,
            tool_version=manifest.tool_version,
            **{name: getattr(manifest, name) for name in _OF_MANIFEST},
        )

    def metadata(self, target: str) -> dict[str, str]:
        """Return the metadata of each file; see `backends.metadata`."""
        return {
            "tool_version": self.tool_version,
            "task": self.task,
            "scores": self.scores,
            "variant": self.variant,
            "target": target,
            "weights_name": self.weights_name,
            "weights_sha256": self.weights_sha256,
            "labels": json.dumps(self.labels, ensure_ascii=False),
            "preprocessing": self.preprocessing.model_dump_json(),
        }


class Job(Strict):
    """Conversion of one source to one format, in one or more precisions.

    Attributes:
        source: what the files are made of.
        format: key of `backends.registry.BACKENDS`.
        target: one of the format's targets.
        paths: file to write for each precision.
        input_kind: see `backends.base.ExportSpec`.
        batch: batch size; None is dynamic.
        options: the format's own, as they were asked for; None leaves the choice to each file.
        calibration: file that `calibrate` wrote; None is the bundled set, if any is needed.
        bundled: key of that set in `data.calibration.BUNDLED`.
        limit: accuracy limit of the quantized files; None is no limit.
        states: file for each precision in which its accuracy search keeps what it has found.
        excluded_layers: for each precision, modules that stay float beside the recipe's.
        observed: file that `preparation.save_observed` wrote for these weights and this one recipe; None measures.
        modules: modules that register the format, the network and the task; the worker imports them.
    """

    source: Source
    format: str
    target: str
    paths: dict[str, AnyPath]
    input_kind: InputKind
    batch: int | None
    options: dict[str, Scalar | None]
    calibration: AnyPath | None = None
    bundled: str | None = None
    limit: AccuracyLimit | None = None
    states: dict[str, AnyPath] = Field(default_factory=dict)
    excluded_layers: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    observed: AnyPath | None = None
    modules: tuple[str, ...] = ()

    def key(self, precision: str) -> ArtifactKey:
        """Return the kind of one of its files."""
        return ArtifactKey(self.format, precision, self.target)

    def settled_options(self, precision: str, *, wide: bool) -> dict[str, Scalar]:
        """Return the options of one of its files, with or without operators of the recipe's `excluded_bits`."""
        options = BACKENDS[self.format].options.model_validate(self.options)
        return options.settled(recipe_of(self.key(precision)), wide=wide).model_dump()


def registering_modules(format_name: str, source: Source) -> tuple[str, ...]:
    """Return the modules that define a format, a network and a task, wherever they were registered from."""
    entries = (BACKENDS[format_name], NETWORKS[source.network], task_of(source))
    return tuple(dict.fromkeys(type(entry).__module__ for entry in entries))


class Accuracy(Strict):
    """Result of the accuracy search for one file; the drop is paired, on `n` labeled images."""

    max_drop_pp: float
    metric: str
    drop_pp: float
    drop_ci95_pp: tuple[float, float]
    n: int
    evaluations: int
    budget: int
    excluded_layers: tuple[str, ...]


class Check(Strict):
    """Distance of a written file from PyTorch, on a few images on which it was run.

    Attributes:
        wide: some of its operators have the recipe's `excluded_bits`.
        npus: what compilers of NPUs said of it; None if it is for none, empty if they are not installed.
        accuracy: of a file that was searched for under a limit.
    """

    precision: str
    runtime: str
    n: int
    max_abs_diff: float
    sqnr_db: float
    wide: bool = False
    npus: tuple[NpuCheck, ...] | None = None
    accuracy: Accuracy | None = None


class _Workers:
    """The processes of an export; after `stop`, none goes on and none starts."""

    def __init__(self, count: int) -> None:
        self._environment = {"OMP_NUM_THREADS": str(threads_each(count))}
        self._started: list[Process] = []
        self._stopped = False

    @contextlib.contextmanager
    def start(self, log: IO[str]) -> Iterator[Process]:
        with own_process(
            "cloformer_deploy.exporting.worker", stdout=subprocess.PIPE, stderr=log, environment=self._environment
        ) as worker:
            self._started.append(worker)
            if self._stopped:  # read after the append, as `stop` sets it before it reads the list
                worker.kill()
            yield worker

    def stop(self) -> None:
        self._stopped = True
        for worker in self._started:
            worker.kill()


def run(jobs: Sequence[Job], progress: Progress) -> list[list[Check]]:
    """Run jobs side by side, one per core, each in a process of its own; if one fails, the others are ended.

    Returns:
        For each job one check for each precision.

    Raises:
        ToolError: a converter or runtime failed or crashed, or a file does not compute what PyTorch does.
        MissingPartError: a package is missing.
        CheckFailedError: no file meets the accuracy limit.
        RequestError: a calibration set or image is damaged, which shows as it is read.
    """
    workers = _Workers(len(jobs))
    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            running = [pool.submit(_run, job, progress, workers) for job in jobs]
            for failed in (item for item in wait(running, return_when=FIRST_EXCEPTION).done if item.exception()):
                failed.result()
            return [finished.result() for finished in running]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            workers.stop()


def _run(job: Job, progress: Progress, workers: _Workers) -> list[Check]:
    with tempfile.TemporaryFile("w+") as log, progress.lane() as lane:
        with workers.start(log) as process:
            checks = list(_follow(process, job, lane))
            code = process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            hint = "try again, or report this"
            if -code == signal.SIGKILL:
                hint = "if memory ran out, export one format at a time, or a smaller input"
            raise ToolError(f"the {job.format} converter was killed by {name}{_tail(log)}", hint)
        if code > 0:  # converters' exceptions arrive as events: this is a bug of this package
            log.seek(0)
            raise RuntimeError(f"the {job.format} worker ended with exit code {code}:\n{log.read()}")
    return checks


def _follow(process: Process, job: Job, progress: Progress) -> Iterator[Check]:
    """Send a job, and yield the checks among the worker's events."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the worker's pipes are missing")
    with contextlib.suppress(BrokenPipeError):  # it has crashed already, which its exit code tells
        process.stdin.write(job.model_dump_json() + "\n")
        process.stdin.flush()
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line)
        match event.pop("event"):
            case "checked":
                yield Check.model_validate(event)
            case "error":
                raise _error(**event)
            case method:  # of `Progress`
                getattr(progress, method)(**event)


def _error(exit_code: int, message: str, hint: str) -> CloformerDeployError:
    kinds: dict[int, type[CloformerDeployError]] = {
        kind.exit_code: kind for kind in (CheckFailedError, RequestError, MissingPartError)
    }
    return kinds.get(exit_code, ToolError)(message, hint)


def _tail(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return "".join(f"\n    {line[:200]}" for line in lines[-LOG_LINES_SHOWN:])
