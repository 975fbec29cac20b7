"""This machine."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cloformer_deploy.backends.registry import FORMATS
from cloformer_deploy.bench.devices.base import Answer, Load, Options, Request
from cloformer_deploy.bench.devices.running import JOB_NAME, RUNNER, entry, job, read_answer, runnable
from cloformer_deploy.errors import MissingPartError, RequestError, ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.packages import install_command

# -I keeps the working directory and the environment from providing modules.
_RUNNER = (sys.executable, "-I", str(RUNNER))
_NO_COREML = "Core ML runs on macOS alone, and the reference interpreter says nothing about time"
COMPUTE_UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")
"""Of Core ML: what a file may use."""


class Host:
    """See `Device`. Core ML files are timed on a Mac alone: the reference interpreter says nothing about time."""

    name = "host"

    @classmethod
    def parse(cls, detail: str, _options: Options) -> "Host":
        """`host`, without anything behind it."""
        if detail:
            raise RequestError(f"--device host:{detail} is not a known device", "say --device host")
        return cls()

    def measure(self, request: Request, progress: Progress) -> Answer:
        """See `Device.measure`."""
        with tempfile.TemporaryDirectory(prefix="cloformer-bench-") as name:
            folder = Path(name)
            here = _survey({load.artifact.format for load in request.loads}, folder)
            loads, reasons = runnable(here, request.loads)
            if not loads:
                path, reason = next(iter(reasons.items()))
                formats = {load.artifact.format for load in request.loads}
                hint = "measure on a Mac" if formats == {"coreml"} else install_command(FORMATS[formats.pop()].extra)
                raise MissingPartError(f"nothing can be timed here: {path}: {reason}", hint)
            (folder / JOB_NAME).write_text(job(list(_entries(loads, folder)), request))
            with subprocess.Popen(
                [*_RUNNER, "measure", str(folder / JOB_NAME)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=_environment(folder),
                start_new_session=True,  # an interrupt is ours to pass on
            ) as process:
                try:
                    assert process.stdout is not None  # noqa: S101 - it is a pipe
                    return read_answer(self.name, iter(process.stdout), here, "host", request, reasons, progress)
                finally:
                    process.kill()


def _environment(folder: Path) -> dict[str, str]:
    """Runtimes leave files in TMPDIR."""
    return {**os.environ, "TMPDIR": str(folder)}


def _survey(formats: set[str], folder: Path) -> dict[str, Any]:
    asked = sorted(formats if sys.platform == "darwin" else formats - {"coreml"})
    command = [*_RUNNER, "survey", *asked]
    ran = subprocess.run(command, stdout=subprocess.PIPE, env=_environment(folder), check=False)
    if ran.returncode:
        raise ToolError(f"this machine cannot be looked at: exit code {ran.returncode}", "see the lines above")
    found: dict[str, Any] = json.loads(ran.stdout)
    found["runtimes"].setdefault("coreml", {"problem": _NO_COREML})
    return found


def _entries(loads: list[Load], folder: Path) -> Iterator[dict[str, Any]]:
    for index, load in enumerate(loads):
        image = folder / f"{index}.npy"
        np.save(image, load.image)
        for unit in COMPUTE_UNITS if load.artifact.format == "coreml" else (None,):
            yield entry(load, str(load.path), str(image), unit=unit)
