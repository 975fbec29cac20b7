"""The runner on another machine, over one connection that takes one command: `ssh HOST ...`, `adb shell ...`.

Everything goes through that command's standard input: first a tar archive with the runner, the job and the files, then
nothing; it is held open as long as the answer is wanted. Should the connection end, however it ends, the runner there
sees its input end and stops, and the shell that started it deletes the folder. Nothing has to be cleaned up from here,
which a lost connection would prevent.
"""

import contextlib
import io
import json
import shlex
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from cloformer_deploy.bench.devices.base import Answer, Load, Request
from cloformer_deploy.bench.devices.running import JOB_NAME, RUNNER, entry, job, read_answer, runnable
from cloformer_deploy.errors import CloformerDeployError, MissingPartError, ToolError
from cloformer_deploy.progress import Progress

SURVEY_S = 120.0
"""To connect and look around: an emulated board takes a while to import its runtimes."""
GRACE_S = 20.0
"""After the runner's own time-out, until `timeout` there ends it; after that again, until the connection is cut."""
ROOM = 1.1
"""Free space there, over the size of what is sent."""
NO_FOLDER, NO_ARCHIVE, NO_TOOL, NOT_FOUND, LOST = 90, 91, 92, 127, 255
_TIMED_OUT, _KILLED = 124, 137
_FULL = ("No space left", "Disk quota", "Wrote only")
"""What tar and mktemp say of a disk that is full; the last is GNU tar's word for a write that came to its end."""

# Runtimes leave files in TMPDIR (ONNX Runtime .ses), which are to go with the rest.
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
    """How to reach a machine: `command` is followed by one argument, which its shell there runs."""

    name: str
    command: tuple[str, ...]


def measure_there(connection: Connection, python: str, request: Request, progress: Progress) -> Answer:
    """Time artifacts with the runner; see `Device.measure`."""
    formats = {load.artifact.format for load in request.loads} - {"coreml"}
    there = survey(connection, python, sorted(formats))
    there["runtimes"]["coreml"] = {"problem": "Core ML runs on macOS and iOS alone"}
    loads, reasons = runnable(there, request.loads)
    if not loads:
        path, reason = next(iter(reasons.items()))
        hint = f"install it there: {python} -m pip install numpy onnxruntime ai-edge-litert"
        raise MissingPartError(f"{connection.name} can run none of the artifacts: {path}: {reason}", hint)
    files = {RUNNER.name: RUNNER.read_bytes(), JOB_NAME: job([_entry(load) for load in loads], request).encode()}
    for load in loads:
        files |= {load.path.name: load.path.read_bytes(), _image_name(load): _npy(load)}
    needed, free = ROOM * sum(map(len, files.values())), there["free_bytes"]
    if free < needed:
        message = (
            f"the disk of {connection.name} is full: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free"
        )
        raise ToolError(message, "make room there, or set TMPDIR there to a folder that has some")
    limit = request.timeout_s + GRACE_S
    run = f"timeout -k 5 {limit:.0f} {shlex.quote(python)} {RUNNER.name} measure {JOB_NAME}"
    with sent(connection, UNPACK + run, files, limit + GRACE_S) as lines:
        return read_answer(connection.name, lines, there, "device", request, reasons, progress)


def survey(connection: Connection, python: str, formats: Sequence[str]) -> dict[str, Any]:
    """What a machine says it is and has; see `runner.survey`.

    Raises:
        MissingPartError: it has no such Python, or lacks a tool.
        ToolError: it cannot be reached, or says something else.
    """
    command = [*connection.command, _TOOLS + _FOLDER + shlex.join([python, "-", "survey", *formats])]
    try:
        ran = subprocess.run(
            command,
            input=RUNNER.read_bytes(),
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
    """Run a script there that unpacks its standard input, and give the lines it prints.

    Raises:
        ToolError: it failed, with what it said; or it took too long.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*connection.command, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # an interrupt is ours to pass on, by ending its input
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
            if sender.is_alive():  # nobody wants what is still being sent
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
    """Write the archive, and leave the pipe open; if nobody reads any more, the exit code says why."""
    with contextlib.suppress(OSError, ValueError), tarfile.open(fileobj=sink, mode="w|") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o700
            archive.addfile(member, io.BytesIO(content))
    with contextlib.suppress(OSError, ValueError):
        sink.flush()


def _failure(connection: Connection, status: int, said: bytes, program: str) -> CloformerDeployError:
    """The error for an exit code and what was written to standard error."""
    lines = said.decode(errors="replace").strip().splitlines()
    last = lines[-1].strip() if lines else f"exit code {status}"
    full = [line for line in lines if any(sign in line for sign in _FULL)]
    if status in (NO_FOLDER, NO_ARCHIVE) and full:
        message = f"the disk of {connection.name} is full: {full[0]}"
        return ToolError(message, "make room there, or set TMPDIR there to a folder that has some")
    if status in (NO_FOLDER, NO_ARCHIVE):
        return ToolError(f"{connection.name} cannot take the files: {last}", "see whether its TMPDIR can be written")
    if status == NO_TOOL:
        return MissingPartError(f"{connection.name} lacks a tool: {last}", "install it there")
    if status == NOT_FOUND:
        message = f"{connection.name} has no {program}: {last}"
        return MissingPartError(message, "install Python 3.8 or later there, or say where it is with --python")
    if status == LOST or status < 0:
        return ToolError(f"the connection to {connection.name} failed: {last}", "see whether it can be reached by hand")
    if status == _TIMED_OUT:
        return ToolError(f"{program} on {connection.name} took too long and was ended", "give more with --timeout")
    if status == _KILLED:
        return ToolError(f"{program} on {connection.name} was killed", "see whether it ran out of memory")
    return ToolError(f"{program} on {connection.name} failed with exit code {status}: {last}", "see what it lacks")


def _entry(load: Load) -> dict[str, Any]:
    return entry(load, load.path.name, _image_name(load), load.artifact.sha256)


def _image_name(load: Load) -> str:
    return f"{load.path.name}.npy"


def _npy(load: Load) -> bytes:
    held = io.BytesIO()
    np.save(held, load.image)
    return held.getvalue()
