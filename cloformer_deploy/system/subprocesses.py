"""Child processes that run a module of this package, and end when the process that started them ends."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TypeAlias

Process: TypeAlias = "subprocess.Popen[str]"


@contextmanager
def own_process(
    module: str,
    *arguments: str,
    stdout: int = subprocess.DEVNULL,
    stderr: int | IO[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """Run a module in a child process, which is killed at the end if it still runs.

    Standard input is a pipe that stays open meanwhile: a child that calls `end_with_parent` ends with it. `-P` keeps
    the working directory from providing modules.

    Args:
        module: run as `python -m module`.
        arguments: follow the module.
        stdout: as of `subprocess.Popen`; text if it is a pipe.
        stderr: as of `subprocess.Popen`.
        environment: variables to add to this process's.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    variables = {**os.environ, **(environment or {})}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, text=True, env=variables)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end_with_parent() -> None:
    """Make this process end when its standard input does, which is when the parent ends, however it ends."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    sys.stdin.read()
    os._exit(1)
