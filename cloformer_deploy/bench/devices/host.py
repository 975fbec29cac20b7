"""This machine."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bench.devices.base import Answer, Kind, Load, Options, Request
from cloformer_deploy.bench.devices.runner_job import (
    JOB_NAME,
    MACHINE,
    RUNNER,
    Placed,
    entries,
    job,
    read_answer,
    runnable,
    survey_request,
)
from cloformer_deploy.errors import MissingPartError, RequestError, ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.files import reachable
from cloformer_deploy.system.packages import install_command
from cloformer_deploy.system.subprocesses import own_process


class Host:
    """See `Device`. Every format is measured on the runtime of its opener, never on an interpreter for checking."""

    name = "host"

    @classmethod
    def parse(cls, detail: str, _options: Options) -> "Host":
        """Make the device from `host`, which nothing may follow."""
        if detail:
            raise RequestError(f"the device host:{detail} is not known", "give --device host")
        return cls()

    def measure(self, request: Request, progress: Progress) -> Answer:
        """See `Device.measure`."""
        with tempfile.TemporaryDirectory(prefix="cloformer-bench-") as name, ExitStack() as links:
            folder = Path(name)
            here = _survey(request, folder)
            loads, not_executed = runnable(here, request.loads)
            if not loads:
                first = not_executed[0]
                backend = BACKENDS[first.load.artifact.format]
                elsewhere = backend.opener.system not in (None, here["system"])
                hint = "measure it on a device that runs it" if elsewhere else install_command(backend.extra)
                message = f"nothing can be measured here: {first.load.artifact.path}: {first.reason}"
                raise MissingPartError(message, hint)
            files = [links.enter_context(reachable(load.path)) for load in loads]
            numbered = enumerate(zip(loads, files, strict=True))
            known = entries([_placed(load, file, folder / str(number)) for number, (load, file) in numbered])
            (folder / JOB_NAME).write_text(job(known, request))
            # An interrupt from the keyboard ends this process, which then ends the runner.
            with _script(RUNNER, "measure", str(folder / JOB_NAME), folder=folder) as lines:
                return read_answer(self.name, lines, here, "host", request, known, not_executed, progress)


def _survey(request: Request, folder: Path) -> dict[str, Any]:
    with _script(MACHINE, survey_request(request.loads), folder=folder) as lines:
        answer = "".join(lines)
    try:
        found: dict[str, Any] = json.loads(answer)
    except ValueError:
        raise ToolError(
            f"this machine cannot be surveyed; the answer is {answer[:200]!r}", "see the lines above"
        ) from None
    return found


@contextmanager
def _script(script: Path, *arguments: str, folder: Path) -> Iterator[Iterator[str]]:
    """Run a stand-alone script, and yield the lines that it prints; runtimes leave their files in the folder."""
    environment = {"TMPDIR": str(folder)}
    with own_process(script, *arguments, stdout=subprocess.PIPE, environment=environment, new_session=True) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        yield iter(process.stdout)


def _placed(load: Load, file: Path, folder: Path) -> Placed:
    """Write a load's inputs to a new folder; the file may be a link to the load's."""
    folder.mkdir()
    paths = {name: str(folder / f"{number}.npy") for number, name in enumerate(load.inputs)}
    for name, values in load.inputs.items():
        np.save(paths[name], values)
    return Placed(load, str(file), str(BACKENDS[load.artifact.format].opener.path), paths)


def _check() -> None:
    """Accept every machine: what a format lacks is found when it is measured."""


KIND = Kind("host", "this machine", _check, Host.parse)
