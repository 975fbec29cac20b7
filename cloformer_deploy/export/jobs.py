"""A conversion as a job for a process of its own.

Converters print, warn, grow and now and then crash; in a process of their own their noise goes to a log, their
memory is given back, and a crash is an error message. The process also runs each file it wrote and compares it
with PyTorch, because a file that was not loaded and run is not done.
"""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any, TypeAlias

from pydantic import BaseModel, ConfigDict

from cloformer_deploy.backends.base import InputKind
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import CheckFailedError, CloformerDeployError, MissingPartError, RequestError, ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.cores import usable_cores
from cloformer_deploy.system.subprocesses import python_command

LOG_LINES_SHOWN = 3


class AccuracyLimit(BaseModel):
    """How much top-1 may fall, on which labeled images, and how many evaluations each precision may take to hold it.

    `data_sha256` is of the labels and all pixels.
    """

    model_config = ConfigDict(frozen=True)

    max_drop_pp: float
    budget: int
    data: Path
    data_sha256: str


class Job(BaseModel):
    """Convert one checkpoint to one format in one or more precisions.

    `outputs` maps each precision to the file to write; `batch` None is a dynamic batch.
    """

    model_config = ConfigDict(frozen=True)

    weights: Path
    format: str
    target: str
    outputs: dict[str, Path]
    preprocessing: Preprocessing
    input_kind: InputKind
    batch: int | None
    labels: tuple[str, ...] | None
    metadata: dict[str, str]
    ios: int
    calibration: Path | None = None
    """A file that `calibrate` wrote; None is the set that ships."""
    limit: AccuracyLimit | None = None
    states: dict[str, Path] = {}
    """Of each precision, where its search keeps what it has found."""
    excluded_layers: dict[str, tuple[str, ...]] = {}
    """Of each precision, the modules that stay float (see `sensitivity.exclusion_pattern`), besides its recipe's."""
    observed: Path | None = None
    """What `preparation.save_observed` wrote of these weights and this one recipe; None: observe them."""


class Accuracy(BaseModel):
    """What an accuracy limit came to for one file: the drop is paired, on `n` labeled images."""

    model_config = ConfigDict(frozen=True)

    max_drop_pp: float
    top1_drop_pp: float
    top1_drop_ci95_pp: tuple[float, float]
    n: int
    evaluations: int
    budget: int
    excluded_layers: tuple[str, ...]


class Check(BaseModel):
    """How far a written file was from PyTorch on a few probe images when it was run back.

    `accuracy` is of a file that was searched for under a limit.
    """

    model_config = ConfigDict(frozen=True)

    precision: str
    runtime: str
    n: int
    max_abs_diff: float
    sqnr_db: float
    accuracy: Accuracy | None = None


Worker: TypeAlias = "subprocess.Popen[str]"


class _Workers:
    """The processes of an export; once stopped, none goes on and none starts."""

    def __init__(self, count: int) -> None:
        # Two processes of as many threads as there are cores are several times slower than one after the other.
        threads = max(1, usable_cores() // count)
        self._environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        self._started: list[Worker] = []
        self._stopped = False

    def start(self, log: IO[str]) -> Worker:
        command = python_command("cloformer_deploy.export.worker")
        pipe = subprocess.PIPE
        worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=self._environment)
        self._started.append(worker)
        if self._stopped:  # looked at after the append, as `stop` sets it before it reads the list
            worker.kill()
        return worker

    def stop(self) -> None:
        self._stopped = True
        for worker in self._started:
            worker.kill()


def run(jobs: Sequence[Job], progress: Progress) -> list[list[Check]]:
    """Run jobs side by side, one a core, each in a process of its own; if one fails, the others are ended.

    Returns:
        For each job one check for each precision.

    Raises:
        ToolError: a converter or runtime failed or crashed, or a file is not what PyTorch computes.
        MissingPartError: a package is missing.
        CheckFailedError: a file cannot be held within its accuracy limit.
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
        process = workers.start(log)
        try:
            checks = list(_follow(process, job, lane))
            code = process.wait()
        finally:
            process.kill()
            process.communicate()
        if code < 0:
            name = signal.Signals(-code).name
            hint = "try again, or report this"
            if -code == signal.SIGKILL:
                hint = "if memory ran out, export one format at a time, or a smaller input"
            raise ToolError(f"the {job.format} converter was killed by {name}{_tail(log)}", hint)
        if code > 0:  # what converters raise has been told as an event: this is a fault of ours
            log.seek(0)
            raise RuntimeError(f"the {job.format} worker ended with exit code {code}:\n{log.read()}")
    return checks


def _follow(process: Worker, job: Job, progress: Progress) -> Iterator[Check]:
    if process.stdin is None or process.stdout is None:
        raise ValueError("the worker's pipes are missing")
    # The pipe stays open: its end is how the worker learns that this process is gone.
    with contextlib.suppress(BrokenPipeError):  # it has crashed already, which its exit code tells
        process.stdin.write(job.model_dump_json() + "\n")
        process.stdin.flush()
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line)
        match event.pop("event"):
            case "step":
                progress.step(event["text"])
            case "advance":
                progress.advance(event["done"], event["total"])
            case "warning":
                progress.warn(event["text"])
            case "checked":
                yield Check.model_validate(event)
            case "error":
                raise _error(**event)


def _error(exit_code: int, message: str, hint: str) -> CloformerDeployError:
    kinds: dict[int, type[CloformerDeployError]] = {
        kind.exit_code: kind for kind in (CheckFailedError, RequestError, MissingPartError)
    }
    return kinds.get(exit_code, ToolError)(message, hint)


def _tail(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return "".join(f"\n    {line[:200]}" for line in lines[-LOG_LINES_SHOWN:])
