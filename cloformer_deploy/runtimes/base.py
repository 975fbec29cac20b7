"""What every runtime has in common."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.errors import MissingPartError


class Session(Protocol):
    """A loaded artefact, ready to run. Not for use from two threads at once."""

    batch: int | None
    """The batch size the file is fixed to; None where it takes any."""

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (B, classes) of a batch (B, 3, H, W).

        `images` is what the file's input kind asks for: normalised float32, or RGB uint8. It is always
        NCHW here; a session whose file wants another layout transposes.

        Raises:
            ToolError: the runtime failed.
        """
        ...


class Runtime(Protocol):
    """Something that executes artefacts of one format. Heavy imports wait for the call."""

    name: str
    title: str
    format: str

    def missing(self) -> MissingPartError | None:
        """What this runtime lacks on this machine, or None if it can run."""
        ...

    def version(self) -> str:
        """What it is, as far as that can change the numbers it gives."""
        ...

    def open(self, path: Path, threads: int = 1) -> Session:
        """Load an artefact.

        Raises:
            MissingPartError: the runtime is not installed here.
            BundleError: the file is not one the runtime can read.
            ToolError: the runtime failed on it.
        """
        ...


def package_missing(*modules: str, extra: str) -> MissingPartError | None:
    """The error that `packages.require` raises, as a value."""
    from cloformer_deploy.packages import require

    try:
        require(*modules, extra=extra)
    except MissingPartError as error:
        return error
    return None
