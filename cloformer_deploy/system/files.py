"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloformer_deploy.errors import CloformerDeployError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file beside `path`, to be written, that takes its place when all went well; else what stood there still does.

    Raises:
        OSError: the folder cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.absolute().parent)
    os.close(handle)
    staged = Path(name)
    try:
        yield staged
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.chmod(0o644)  # mkstemp's file is for its owner only
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Put a path in front of the message of any error of this package that is raised inside.

    Raises:
        CloformerDeployError: of the same class, with the same hint and cause.
    """
    try:
        yield
    except CloformerDeployError as error:
        raise type(error)(f"{path}: {error.message}", error.hint) from error.__cause__ or error
