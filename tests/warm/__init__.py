"""Workers of exports that are forked from a process in which their converter is loaded already.

Loading one takes 6 to 10 CPU seconds, a third of a small conversion. Only the start differs: a worker is still a
process of its own, with its own pipes, and its exit code is that of the process that `export` waits for.
"""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from cloformer_deploy.exporting import running
from cloformer_deploy.system.subprocesses import Process, own_process

ROOT_SOCKET = "root"
_STUB = Path(__file__).with_name("stub.py")


class WarmWorkers:
    """Takes the place of `own_process` where exports start their workers.

    Args:
        folder: for sockets; its path is short.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @contextmanager
    def start(self, program: str, *, stdout: int, stderr: IO[str], environment: Mapping[str, str]) -> Iterator[Process]:
        """See `own_process`."""
        assert program == "cloformer_deploy.exporting.worker"
        with self._lock:
            if self._root is None:
                self._root = self._started()
        with own_process(_STUB, str(self._folder), stdout=stdout, stderr=stderr, environment=environment) as process:
            yield process

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", "tests.warm.server", str(self._folder)]
        pipe = subprocess.PIPE
        root = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True)
        assert root.stdout is not None
        assert root.stdout.readline(), "the server of warm workers did not start"
        return root

    def end(self) -> None:
        """End the servers: each ends when its standard input does."""
        if self._root is not None:
            self._root.communicate()


@contextmanager
def warm_workers() -> Iterator[None]:
    """Let exports of this process have warm workers, where the system can pass pipes and processes on."""
    if sys.platform != "linux":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="warm-") as folder, pytest.MonkeyPatch.context() as patched:
        workers = WarmWorkers(Path(folder))
        patched.setattr(running, "own_process", workers.start)
        yield
        workers.end()
