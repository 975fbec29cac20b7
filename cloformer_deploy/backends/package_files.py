"""Read the files of an untrusted package: no file outside its folder, none reached through a link, none very large."""

import os
from pathlib import Path

from cloformer_deploy.errors import BundleError

MAX_FILE_BYTES = 2**30
"""The largest file that is read, because a file is read into memory whole.

The float32 weights of the largest CloFormer are a twentieth of this.
"""

EXPORT_AGAIN = "copy the whole package again, or export it again"
"""The hint for a package with missing or damaged files."""


def check_no_links(root: Path) -> None:
    """Check that a package consists of folders and regular files, whether its manifest lists them or not.

    Args:
        root: the package's folder.

    Raises:
        BundleError: there is a link or a special file, or a folder is not readable.
    """

    def fail(error: OSError) -> None:
        raise error

    try:
        for folder, folders, files in os.walk(root, onerror=fail):
            for name in (*folders, *files):
                path = Path(folder, name)
                if path.is_symlink():
                    message = f"{shown(path.relative_to(root))} is a link to {shown(path.readlink())}"
                    raise BundleError(message, "copy the package with its links replaced by the files they point to")
                if not path.is_dir() and not path.is_file():
                    raise BundleError(f"{shown(path.relative_to(root))} is no regular file", EXPORT_AGAIN)
    except OSError as error:
        raise BundleError(f"{shown(error.filename)} cannot be read ({error.strerror})", "check permissions") from error


def read_part(root: Path, folder: Path, relative: str) -> bytearray:
    """Read a regular file inside a package into memory.

    Args:
        root: the package's folder, resolved.
        folder: the folder inside the package that `relative` starts from, resolved.
        relative: the path of the file below `folder`, with "/" between its parts.

    Returns:
        The whole file; a bytearray, because torch requires writable memory for its tensors.

    Raises:
        BundleError: the file is missing, empty, larger than `MAX_FILE_BYTES` or unreadable, or its path contains
            a link or "..".
    """
    path = inside(root, folder, relative)
    if not path.is_file():
        raise BundleError(f"the package has no file {shown(relative)}", EXPORT_AGAIN)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            message = f"{shown(relative)} has {size} bytes, more than the limit of {MAX_FILE_BYTES}"
            raise BundleError(message, EXPORT_AGAIN)
        content = bytearray(path.read_bytes())
    except OSError as error:
        message = f"{shown(relative)} cannot be read ({error.strerror})"
        raise BundleError(message, "check the permissions of the file") from error
    if not content:
        raise BundleError(f"{shown(relative)} is empty", EXPORT_AGAIN)
    return content


def inside(root: Path, folder: Path, relative: str) -> Path:
    """Return `folder / relative` after checking that it stays inside the package.

    Args:
        root: the package's folder, resolved.
        folder: the folder inside the package that `relative` starts from, resolved.
        relative: the path below `folder`, with "/" between its parts; it need not exist.

    Raises:
        BundleError: a part of the path is empty, "." or "..", not a valid file name, or a link.
    """
    path = folder
    for part in relative.split("/"):
        if part in ("", ".", "..") or not part.isprintable() or set(part) & set('\\:*?"<>|') or len(part) > 255:
            message = f"the package refers to {shown(relative)}, which is not a plain path inside it"
            raise BundleError(message, "do not use this package: coremltools does not write such paths")
        path /= part
    try:
        # This also resolves links in `folder`, whose parts, such as Data/, are not checked above.
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise BundleError(f"the path {shown(relative)} cannot be resolved ({shown(error)})", EXPORT_AGAIN) from error
    if real != path or not real.is_relative_to(root):
        message = f"{shown(relative)} is reached through a link to {shown(real)}"
        raise BundleError(message, "copy the package with its links replaced by the files they point to")
    return path


def shown(text: object) -> str:
    """Return untrusted text in quotes for a message: one line of printable ASCII, of at most 80 characters."""
    line = ascii(str(text))
    return line if len(line) <= 80 else f"{line[:76]}...'"
