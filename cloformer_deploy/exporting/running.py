"""Run conversion jobs in processes of their own.

Converters print, warn, use much memory and sometimes crash. In a process of its own their output goes to a log, their
memory is freed, and a crash becomes an error message. The process also runs each file that it wrote and compares it
with PyTorch: a file that was not loaded and run is not done.
"""

import contextlib
import json
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.errors import CheckFailedError, CloformerDeployError, MissingPartError, RequestError, ToolError
from cloformer_deploy.exporting.jobs import Check, Job
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.cores import threads_each, usable_cores
from cloformer_deploy.system.subprocesses import Process, own_process

LOG_LINES_SHOWN = 3


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
    """Run jobs side by side, each in a process of its own; if one fails, the others are ended.

    They are one more than the cores, which are then busy while one starts or waits. The longest conversions begin
    first. Of jobs that need ranges of activations, the first measures for all.

    Args:
        jobs: of one source, with one calibration set; others measure by themselves.
        progress: receives the steps of each.

    Returns:
        For each job one check for each precision.

    Raises:
        ToolError: a converter or runtime failed or crashed, or a file does not compute what PyTorch does.
        MissingPartError: a package is missing.
        CheckFailedError: no file meets the accuracy limit.
        RequestError: a calibration set or image is damaged, which shows as it is read.
    """
    workers, slots = _Workers(len(jobs)), usable_cores() + 1
    order = sorted(range(len(jobs)), key=lambda index: -BACKENDS[jobs[index].format].conversion_s)
    with tempfile.TemporaryDirectory(prefix="cloformer-deploy-") as folder, ThreadPoolExecutor(slots) as pool:
        shared = _sharing([jobs[index] for index in order], Path(folder, "measured.pt"))
        try:
            running = [pool.submit(_run, job, progress, workers) for job in shared]
            for failed in (item for item in wait(running, return_when=FIRST_EXCEPTION).done if item.exception()):
                failed.result()
            found = {index: finished.result() for index, finished in zip(order, running, strict=True)}
            return [found[index] for index in range(len(jobs))]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            workers.stop()


def _sharing(jobs: Sequence[Job], path: Path) -> list[Job]:
    """Let the first of the jobs that calibrate write to a path what it has measured, and the others read it."""
    calibrating = [job for job in jobs if job.calibrated and job.measured is None]
    if len(calibrating) < 2:
        return list(jobs)
    first, *others = calibrating
    if any(
        (job.source, job.calibration, job.bundled) != (first.source, first.calibration, first.bundled) for job in others
    ):
        return list(jobs)
    keys = tuple(job.key(precision) for job in others for precision in job.calibrated)
    told: dict[int, dict[str, Any]] = {id(job): {"measured": path} for job in others}
    told[id(first)] = {"measured": path, "measures_for": keys, "measuring_threads": threads_each(1)}
    return [job.model_copy(update=told.get(id(job))) for job in jobs]


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
