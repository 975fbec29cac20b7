"""The interface of a device in the device tests."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.devices.namespaces import Machine
from tests.processes import eventually

PARTS = Path(__file__).resolve().parents[2] / ".device-parts"


@dataclass(frozen=True)
class Device:
    """A device that is really there: other root, other processes, reached through its daemon only."""

    device: str  # for `--device`
    python: str  # a Python with the runtimes, by its path on the device; `python3` on its PATH too
    command: list[str]  # prefix of a command that is to reach it
    env: dict[str, str]  # to be put over the environment of such a command
    shell: list[str]  # what a script is appended to, to run it on the device; after `command`
    temporary: str  # where the device's `mktemp` puts things, as the device names it
    machine: Machine
    daemons: frozenset[int]  # processes that belong to the device itself
    drop: Callable[[], None]  # cut the connections there are; new ones can be made at once

    @property
    def scratch(self) -> Path:
        """The path by which this process reaches `temporary`."""
        return self.machine.path(self.temporary)

    def processes(self) -> list[str]:
        """The processes on the device, without its daemons and their open connections."""
        return [
            " ".join(arguments)
            for process, arguments in self.machine.processes().items()
            if process not in self.daemons and not any("sshd-" in argument for argument in arguments[:2])
        ]

    def clear(self) -> None:
        """Kill what a failed test left running on the device, and remove the files that it left."""
        if self.processes():
            for process in self.machine.processes().keys() - self.daemons:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            if not eventually(lambda: not self.processes()):
                raise TimeoutError(f"{self.processes()} cannot be killed")
        for path in self.scratch.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    @contextlib.contextmanager
    def small_disk(self) -> Iterator[None]:
        """Meanwhile 1 MB is all that the device's temporary folder holds, and it starts empty."""
        with self.machine.small_disk(self.temporary, "1m"):
            yield

    def run(self, script: str, stdin: bytes = b"", timeout_s: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Run a script on the device."""
        command = [*self.command, *self.shell, script]
        return subprocess.run(
            command, env={**os.environ, **self.env}, input=stdin, capture_output=True, timeout=timeout_s
        )
