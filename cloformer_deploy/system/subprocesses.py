"""Child processes that run Python code of this package and never outlive the process that started them."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import IO, TypeAlias

Process: TypeAlias = "subprocess.Popen[str]"


@contextmanager
def own_process(
    program: str | Path,
    *arguments: str,
    stdout: int = subprocess.DEVNULL,
    stderr: int | IO[str] | None = None,
    environment: Mapping[str, str] | None = None,
    new_session: bool = False,
) -> Iterator[Process]:
    """Run a module or a script in a child process, which is killed and reaped on exit.

    The child's standard input is a pipe that stays open as long as this process lives. A child that calls
    `end_with_parent` therefore ends when this process ends, even if this one is killed.

    Args:
        program: a module name (run with `python -P -m`, so that the working directory provides no modules), or the path
            of a stand-alone script (run with `python -I`, so that the environment provides none either).
        arguments: command-line arguments of the program.
        stdout: discarded by default; `subprocess.PIPE` gives a text stream.
        stderr: inherited by default; a file, `subprocess.DEVNULL` or `subprocess.STDOUT` redirects it.
        environment: variables added to those of this process.
        new_session: put the child into a process group of its own, which an interrupt from the keyboard does not reach.

    Yields:
        The running process.
    """
    code = ["-P", "-m", program] if isinstance(program, str) else ["-I", str(program)]
    process = subprocess.Popen(
        [sys.executable, *code, *arguments],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        text=True,
        env={**os.environ, **(environment or {})},
        start_new_session=new_session,
    )
    try:
        yield process
    finally:
        process.kill()
        # Closed and not read to the end, which would wait for grandchildren that have inherited the pipe.
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # input that was written but not sent cannot be sent any more
                    stream.close()
        process.wait()


def end_with_parent() -> None:
    """Make this process exit with code 1 when its standard input ends, which happens when the parent process ends.

    A thread reads standard input from now on, so the caller must have read what it needs of it.
    """
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()


def _exit_at_end_of_input() -> None:
    sys.stdin.read()
    os._exit(1)


def silent_pool(workers: int, environment: Mapping[str, str] | None = None) -> ProcessPoolExecutor:
    """Return a pool of processes for a vendor's native libraries, which may print and crash.

    They print to nowhere, and end when this process ends.

    Args:
        workers: most processes; they are started as they are needed.
        environment: variables that are set in them before anything is imported.
    """
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=start_silently, initargs=(dict(environment or {}),)
    )


def start_silently(environment: Mapping[str, str] | None = None) -> None:
    """Silence this process, and end it when the process that started it with multiprocessing ends."""
    os.environ.update(environment or {})
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
