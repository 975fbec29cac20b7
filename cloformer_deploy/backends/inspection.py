"""Inspect a file: what it holds and costs, and what its runtime shows about it."""

from dataclasses import dataclass
from pathlib import Path

from cloformer_deploy.backends.description import Description, Section
from cloformer_deploy.backends.registry import backend_of
from cloformer_deploy.errors import CloformerDeployError


@dataclass(frozen=True)
class Inspection:
    """A file's description, and what its runtime shows.

    Attributes:
        description: what can be read from the file.
        sections: what its runtime shows; empty where the format has nothing to show.
        problem: why the runtime could not show it, or None.
    """

    description: Description
    sections: tuple[Section, ...] = ()
    problem: str | None = None


def inspect(path: Path) -> Inspection:
    """Describe a file, and load or run it on its runtime.

    Raises:
        BundleError: the file is damaged, or of no known format.
        MissingPartError: the package that reads it is not installed.
    """
    backend = backend_of(path)
    description = backend.describe(path)
    try:
        return Inspection(description, tuple(backend.inspect(path, description)))
    except (CloformerDeployError, ValueError) as error:  # foreign metadata, a program the interpreter does not know
        return Inspection(description, problem=str(error))
