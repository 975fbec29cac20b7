"""Core AI: the system's own on macOS 27, and Apple's interpreter of the package `coreai-core` on other systems."""

import platform
from importlib.metadata import version
from pathlib import Path

from cloformer_deploy.backends.base import INPUT_NAME, Feed
from cloformer_deploy.backends.coreai import process
from cloformer_deploy.backends.failures import run_failed
from cloformer_deploy.errors import BundleError, MissingPartError
from cloformer_deploy.system.cores import usable_cores
from cloformer_deploy.tasks.base import Outputs

FIRST_MACOS = 27
"""First version of macOS that has Core AI."""


class CoreAI:
    """Core AI of the system, on whichever units it chooses. See `Runtime`."""

    name = "coreai"
    title = "Core AI"

    def missing(self) -> MissingPartError | None:
        """See `Runtime.missing`."""
        if platform.system() != "Darwin" or int(platform.mac_ver()[0].partition(".")[0]) < FIRST_MACOS:
            system = f"{platform.system()} {platform.mac_ver()[0]}".strip()
            return MissingPartError(
                f"Core AI runs on macOS {FIRST_MACOS} or later only, this is {system}",
                "Apple's interpreter runs Core AI files here",
            )
        return process.missing()

    def version(self) -> str:
        """See `Runtime.version`."""
        return f"{version('coreai-core')} macOS {platform.mac_ver()[0]}"

    def open(self, path: Path, threads: int = 1) -> "CoreAISession":
        """See `Runtime.open`."""
        lack = self.missing()
        if lack is not None:
            raise lack
        return CoreAISession(path, self.title, 1, local=False)


class CoreAIInterpreter:
    """Apple's interpreter: checks numbers, says nothing about speed. See `Runtime`."""

    name = "coreai-interpreter"
    title = "Apple's Core AI interpreter"

    def missing(self) -> MissingPartError | None:
        """See `Runtime.missing`."""
        return process.missing()

    def version(self) -> str:
        """See `Runtime.version`."""
        return version("coreai-core")

    def open(self, path: Path, threads: int = 1) -> "CoreAISession":
        """See `Runtime.open`; with any number of `threads`, the images of a batch are run side by side on all cores."""
        return CoreAISession(path, self.title, usable_cores(), local=True)


class CoreAISession:
    """See `Session`.

    Args:
        path: of the asset.
        title: the runtime's.
        count: of processes.
        local: see `process.Processes`.
    """

    def __init__(self, path: Path, title: str, count: int, *, local: bool) -> None:
        self._title = title
        inputs = {item.name: item for item in process.read(path).inputs}
        if INPUT_NAME not in inputs:
            raise BundleError(f"{path} has no {INPUT_NAME!r}, only {', '.join(inputs)}", "export it again")
        self._input = inputs[INPUT_NAME]
        self._size = self._input.shape[0]
        self.batch: int | None = None if self._size == 1 else self._size
        self._processes = process.Processes(path, count, local=local)

    def run(self, feed: Feed) -> Outputs:
        """See `Session.run`."""
        import numpy as np

        _check(self._title, feed, self._input.dtype, self._input.shape[1:])
        images = feed[INPUT_NAME]
        batches = [{INPUT_NAME: images[start : start + self._size]} for start in range(0, len(images), self._size)]
        found = self._processes.run(list(batches))
        return {name: np.concatenate([np.asarray(part[name], np.float32) for part in found]) for name in found[0]}


def _check(title: str, feed: Feed, dtype: str, shape: tuple[int, ...]) -> None:
    """Check the arrays of a feed; the interpreter ends its process on others.

    Raises:
        ToolError: they are not the file's inputs.
    """
    given = feed.get(INPUT_NAME)
    if len(feed) == 1 and given is not None and str(given.dtype) == dtype and given.shape[1:] == shape:
        return
    wanted = f"it takes {INPUT_NAME} {dtype} (batch, {', '.join(map(str, shape))})"
    raise run_failed(title, feed, ValueError(wanted))
