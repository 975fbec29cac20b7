"""Atomic replacement of files, and errors that name the file they are about."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloformer_deploy.errors import CloformerDeployError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Replace a file atomically: the caller writes a temporary file, which is renamed to `path` on success.

    After an error the temporary file is removed, and whatever was at `path` before is unchanged. The new file has mode
    0644 and is synced to disk before it is renamed.

    Args:
        path: the file to create or replace; its folder must exist.

    Yields:
        The temporary file, which exists and is empty, in the same folder and with the same suffix.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.absolute().parent)
    os.close(handle)
    staged = Path(name)
    try:
        yield staged
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.chmod(0o644)  # mkstemp gives access to the owner only
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Put `path: ` in front of the message of every error of this package that is raised inside.

    Raises:
        CloformerDeployError: the same class as the error inside, with the same hint, and with the same cause if it has
            one, or else with that error as its cause.
    """
    try:
        yield
    except CloformerDeployError as error:
        raise type(error)(f"{path}: {error.message}", error.hint) from error.__cause__ or error


@contextmanager
def reachable(path: Path) -> Iterator[Path]:
    """Name a file for a library that takes names in UTF-8 only.

    Yields:
        The path, or if it is not UTF-8 a link to it in a temporary folder.
    """
    try:
        str(path).encode()
        folder = None
    except UnicodeEncodeError:
        folder = tempfile.TemporaryDirectory()
    if folder is None:
        yield path
        return
    with folder as name:
        link = Path(name, "link" + path.suffix.encode(errors="replace").decode())
        link.symlink_to(path.absolute())
        yield link
