"""The runner on another machine, over a connection that takes one command: `ssh HOST ...`, `adb shell ...`.

Everything goes through that command's standard input: first a tar archive with the runner, the job and the files, then
nothing. The input is held open as long as the answer is wanted. If the connection ends, for whatever reason, the runner
there sees its input end and stops, and the shell that started it deletes the folder. Nothing has to be cleaned up from
here, which a lost connection would prevent.
"""

import contextlib
import io
import json
import shlex
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bench.devices.base import Answer, Load, Request
from cloformer_deploy.bench.devices.runner_job import (
    JOB_NAME,
    MACHINE,
    RUNNER,
    Placed,
    entries,
    job,
    packages,
    read_answer,
    runnable,
    survey_request,
)
from cloformer_deploy.errors import CloformerDeployError, MissingPartError, ToolError
from cloformer_deploy.progress import Progress

SURVEY_S = 120.0
"""Time limit of the survey, seconds: an emulated board takes a while to import its runtimes."""
GRACE_S = 20.0
"""Seconds from the runner's own limit until `timeout` there ends it, and from then until the connection is cut."""
ROOM = 1.1
"""Least free space on the device, as a multiple of the size of what is sent."""
NO_FOLDER, NO_ARCHIVE, NO_TOOL, NOT_FOUND, LOST = 90, 91, 92, 127, 255
_TIMED_OUT, _KILLED = 124, 137
_FULL = ("No space left", "Disk quota", "Wrote only")
"""Messages of tar and mktemp about a full disk; the last is GNU tar's for a write that was cut short."""

# Runtimes leave files in TMPDIR (ONNX Runtime: .ses), which are deleted with the rest.
_FOLDER = f"""umask 077
d=$(mktemp -d "${{TMPDIR:-/tmp}}/cloformer-bench.XXXXXX") || exit {NO_FOLDER}
trap 'cd /; rm -rf "$d"' EXIT
trap 'exit 129' HUP INT TERM PIPE
export TMPDIR="$d"
"""
UNPACK = f"""{_FOLDER}cd "$d" && tar -xf - || exit {NO_ARCHIVE}
"""
_TOOLS = f"""for tool in mktemp tar timeout; do
command -v $tool >/dev/null || {{ echo "$tool is not there" >&2; exit {NO_TOOL}; }}
done
"""


@dataclass(frozen=True)
class Connection:
    """A way to reach a machine: `command` is followed by one argument, which the shell there runs."""

    name: str
    command: tuple[str, ...]


def measure_there(connection: Connection, python: str, request: Request, progress: Progress) -> Answer:
    """Measure artifacts with the runner; see `Device.measure`."""
    there = survey(connection, python, survey_request(request.loads))
    loads, not_executed = runnable(there, request.loads)
    if not loads:
        first = not_executed[0]
        needed = packages(request.loads, there["system"])
        hint = f"install it there: {python} -m pip install {needed}"
        message = f"{connection.name} can run none of the artifacts: {first.load.artifact.path}: {first.reason}"
        raise MissingPartError(message, hint if needed else "measure it on a device that runs it")
    files: dict[str, bytes] = {}
    known = entries([_placed(load, str(number), files) for number, load in enumerate(loads)])
    files |= {
        RUNNER.name: RUNNER.read_bytes(),
        MACHINE.name: MACHINE.read_bytes(),
        JOB_NAME: job(known, request).encode(),
    }
    needed_bytes, free_bytes = ROOM * sum(map(len, files.values())), there["free_bytes"]
    if free_bytes < needed_bytes:
        figures = f"{needed_bytes / 1e6:.0f} MB are needed, {free_bytes / 1e6:.0f} MB are free"
        raise _disk_full(connection, figures)
    limit = request.timeout_s + GRACE_S
    run = f"timeout -k 5 {limit:.0f} {shlex.quote(python)} {RUNNER.name} measure {JOB_NAME}"
    with sent(connection, UNPACK + run, files, limit + GRACE_S) as lines:
        return read_answer(connection.name, lines, there, "device", request, known, not_executed, progress)


def _placed(load: Load, folder: str, files: dict[str, bytes]) -> Placed:
    """Add a load's files to those that are sent, below a folder of its own; the opener is sent once per format."""
    backend = BACKENDS[load.artifact.format]
    opener = f"opener_{backend.name}.py"
    files[opener] = backend.opener.path.read_bytes()
    name = f"{folder}/{load.path.name}"
    if load.path.is_dir():
        inner = [path for path in load.path.rglob("*") if path.is_file()]
        files |= {f"{name}/{path.relative_to(load.path)}": path.read_bytes() for path in inner}
    else:
        files[name] = load.path.read_bytes()
    inputs = {key: f"{folder}/{number}.npy" for number, key in enumerate(load.inputs)}
    files |= {inputs[key]: _npy(values) for key, values in load.inputs.items()}
    return Placed(load, name, opener, inputs, load.artifact.sha256)


def _npy(values: NDArray[Any]) -> bytes:
    held = io.BytesIO()
    np.save(held, values)
    return held.getvalue()


def survey(connection: Connection, python: str, formats: str) -> dict[str, Any]:
    """Run `machine.py` on a machine, without leaving anything there, and return its answer.

    Args:
        connection: to the machine.
        python: the Python there.
        formats: see `survey_request`.

    Raises:
        MissingPartError: it has no such Python, or lacks a tool.
        ToolError: it cannot be reached, or answers something else.
    """
    command = [*connection.command, _TOOLS + _FOLDER + shlex.join([python, "-", formats])]
    try:
        ran = subprocess.run(
            command,
            input=MACHINE.read_bytes(),
            capture_output=True,
            timeout=SURVEY_S,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        message = f"{connection.name} did not answer within {SURVEY_S:.0f} s"
        raise ToolError(message, "see whether it is reachable, and what it is busy with") from None
    if ran.returncode:
        raise _failure(connection, ran.returncode, ran.stderr, python)
    try:
        found: dict[str, Any] = json.loads(ran.stdout)
    except ValueError:
        message = f"{connection.name} answers with {ran.stdout[:200]!r}"
        raise ToolError(message, "a shell there must print nothing when it starts") from None
    return found


@contextlib.contextmanager
def sent(connection: Connection, script: str, files: Mapping[str, bytes], timeout_s: float) -> Iterator[Iterator[str]]:
    """Run a script on a machine, send it files as a tar archive, and yield the lines that it prints.

    Standard input stays open after the archive until the end of the context.

    Args:
        connection: to the machine.
        script: reads the archive from its standard input; it may begin with `UNPACK`.
        files: content by path in the archive.
        timeout_s: time after which the connection is cut.

    Raises:
        MissingPartError: a program that the script runs is not there.
        ToolError: the script failed (the message has its last words) or took too long.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*connection.command, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # an interrupt is passed on from here, by ending its input
        )
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101
        sender = threading.Thread(target=_send, args=(process.stdin, files), daemon=True)
        sender.start()
        over = threading.Event()

        def cut() -> None:
            over.set()
            process.kill()

        timer = threading.Timer(timeout_s, cut)
        timer.start()
        try:
            yield _lines(connection, process, process.stdout, log, over)
        finally:
            timer.cancel()
            if sender.is_alive():  # what is still being sent is not wanted any more
                process.kill()
            sender.join()
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(GRACE_S)  # while it deletes its folder
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def _lines(
    connection: Connection, process: "subprocess.Popen[bytes]", out: IO[bytes], log: IO[bytes], over: threading.Event
) -> Iterator[str]:
    for line in out:
        yield line.decode(errors="replace")
    status = process.wait()
    if over.is_set():
        raise ToolError(
            f"{connection.name} did not end in time", "give more with --timeout, or see what it is busy with"
        )
    if status:
        log.seek(0)
        raise _failure(connection, status, log.read(), "the runner")


def _send(sink: IO[bytes], files: Mapping[str, bytes]) -> None:
    """Write the archive, and leave the pipe open. If it is no longer read, the exit code has the reason."""
    with contextlib.suppress(OSError, ValueError), tarfile.open(fileobj=sink, mode="w|") as archive:
        folders = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}
        for name in sorted(folders):  # not every tar makes them by itself
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o700
            archive.addfile(member, io.BytesIO(content))
    with contextlib.suppress(OSError, ValueError):
        sink.flush()


def _failure(connection: Connection, status: int, stderr: bytes, program: str) -> CloformerDeployError:
    """Return the error for an exit code and what was written to standard error."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    last = lines[-1].strip() if lines else f"exit code {status}"
    full = [line for line in lines if any(sign in line for sign in _FULL)]
    if status in (NO_FOLDER, NO_ARCHIVE) and full:
        return _disk_full(connection, full[0])
    if status in (NO_FOLDER, NO_ARCHIVE):
        return ToolError(f"{connection.name} cannot take the files: {last}", "see whether its TMPDIR can be written")
    if status == NO_TOOL:
        return MissingPartError(f"{connection.name} lacks a tool: {last}", "install it there")
    if status == NOT_FOUND:
        message = f"{connection.name} has no {program}: {last}"
        return MissingPartError(message, "install Python 3.8 or later there, or give its path with --python")
    if status == LOST or status < 0:
        return ToolError(f"the connection to {connection.name} failed: {last}", "see whether it can be reached by hand")
    if status == _TIMED_OUT:
        return ToolError(f"{program} on {connection.name} took too long and was ended", "give more with --timeout")
    if status == _KILLED:
        return ToolError(f"{program} on {connection.name} was killed", "see whether it ran out of memory")
    return ToolError(f"{program} on {connection.name} failed with exit code {status}: {last}", "see what it lacks")


def _disk_full(connection: Connection, detail: str) -> ToolError:
    message = f"the disk of {connection.name} is full: {detail}"
    return ToolError(message, "make room there, or set TMPDIR there to a folder that has some")
