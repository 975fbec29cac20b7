"""A conversion as a job for a process of its own.

Converters print, warn, grow and now and then crash; in a process of their own their noise goes to a log, their
memory is given back, and a crash is an error message. The process also runs each file it wrote and compares it
with PyTorch, because a file that was not loaded and run is not done.
"""

import contextlib
import json
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict

from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import CloformerDeployError, MissingPartError, ToolError
from cloformer_deploy.formats.base import InputKind
from cloformer_deploy.progress import Progress
from cloformer_deploy.subprocesses import python_command

LOG_LINES_SHOWN = 3


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


class Check(BaseModel):
    """How far a written file was from PyTorch on a few probe pictures when it was run back."""

    model_config = ConfigDict(frozen=True)

    precision: str
    runtime: str
    n: int
    max_abs_diff: float
    sqnr_db: float


def run(job: Job, progress: Progress) -> list[Check]:
    """Run a job in a process of its own and return one check for each precision.

    Raises:
        ToolError: the converter or the runtime failed or crashed, or the file is not what PyTorch computes.
        MissingPartError: a package is missing.
    """
    command = python_command("cloformer_deploy.formats.worker")
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            checks = list(_follow(process, job, progress))
            code = process.wait()
        finally:
            process.kill()
            process.communicate()
        if code < 0:
            name = signal.Signals(-code).name
            raise ToolError(f"the {job.format} converter was killed by {name}{_tail(log)}", "try again, or report this")
        if code > 0:  # what converters raise has been told as an event: this is a fault of ours
            log.seek(0)
            raise RuntimeError(f"the {job.format} worker ended with exit code {code}:\n{log.read()}")
    return checks


def _follow(process: "subprocess.Popen[str]", job: Job, progress: Progress) -> Iterator[Check]:
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
            case "warning":
                progress.warn(event["text"])
            case "checked":
                yield Check.model_validate(event)
            case "error":
                raise _error(**event)


def _error(exit_code: int, message: str, hint: str) -> CloformerDeployError:
    kind = MissingPartError if exit_code == MissingPartError.exit_code else ToolError
    return kind(message, hint)


def _tail(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return "".join(f"\n    {line[:200]}" for line in lines[-LOG_LINES_SHOWN:])
