"""Programs that tests start and interrupt: with signals as in the foreground of a shell, and ended after each test."""

import contextlib
import os
import signal
import subprocess
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

MARK = "CLOFORMER_DEPLOY_TEST"
"""An environment variable that a program and all that it starts inherit: those that are left are found by it."""


@contextlib.contextmanager
def foreground_signals() -> Iterator[None]:
    """Let programs that are started meanwhile react to SIGINT.

    A shell starts a background job (`nohup make test &`) with SIGINT ignored, and programs inherit that: a test that
    interrupts one would wait for nothing.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def eventually(holds: Callable[[], bool], within_s: float = 40) -> bool:
    """Return whether something holds before long."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a fork of this process, which spares it the start of Python and the imports.

    Returns:
        Its exit code: 0 once `work` has returned, 1 if it raised anything but SystemExit, -N if signal N killed it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: a fork beside threads
        child = os.fork()
    if child == 0:
        try:
            work()
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Processes:
    """The programs of one test, and all that they start."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self._started: list[subprocess.Popen[str]] = []

    def start(self, command: Sequence[str | Path], **options: Any) -> "subprocess.Popen[str]":
        """Start a program with signals as in the foreground, and standard output and error in pipes as text."""
        pipe, env = subprocess.PIPE, {**options.pop("env", os.environ), MARK: self.mark}
        with foreground_signals():
            process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env, **options)
        self._started.append(process)
        return process

    def alive(self) -> list[psutil.Process]:
        """Return the processes of the test's programs, and all that these started; zombies excluded."""
        found = []
        for process in psutil.process_iter():
            # Processes end meanwhile, and those of other users may not be read.
            with contextlib.suppress(psutil.Error, OSError):
                marked = process.pid != os.getpid() and process.environ().get(MARK) == self.mark
                if marked and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def gone(self, within_s: float = 6) -> bool:
        """Return whether all processes end by themselves before long."""
        return eventually(lambda: not self.alive(), within_s)

    def end(self) -> None:
        """Kill what still runs, so that a failed test disturbs none of those that follow."""
        while left := self.alive():
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
        for started in self._started:
            started.wait()
            for pipe in (started.stdin, started.stdout, started.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what is left in the buffer of standard input has no reader
                        pipe.close()
