"""Reading the files of a package that is not trusted: nothing outside it, nothing through links, nothing huge."""

from pathlib import Path

from cloformer_deploy.errors import BundleError

MAX_FILE_BYTES = 2**30
"""A part is read into memory whole; the largest CloFormer's weights in float32 are a twentieth of this."""

EXPORT_AGAIN = "copy the package again, with every file in it, or export it again"


def read_part(root: Path, folder: Path, relative: str) -> bytearray:
    """All bytes of the regular file `relative` to `folder`, which must stay inside the package at `root`.

    A bytearray, because torch wants tensors over writable memory.

    Raises:
        BundleError: it is missing, empty, too large, not readable, or reached through a link or "..".
    """
    path = inside(root, folder, relative)
    if not path.is_file():
        raise BundleError(f"the package has no file {shown(relative)}", EXPORT_AGAIN)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            message = f"{shown(relative)} has {size} bytes, more than the {MAX_FILE_BYTES} that are read"
            raise BundleError(message, EXPORT_AGAIN)
        content = bytearray(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{shown(relative)} cannot be read ({error.strerror})", "check its permissions") from error
    if not content:
        raise BundleError(f"{shown(relative)} is empty", EXPORT_AGAIN)
    return content


def inside(root: Path, folder: Path, relative: str) -> Path:
    """`folder / relative`, every step of which is a plain name and no link.

    `root` and `folder` are resolved already. The path need not exist.

    Raises:
        BundleError: it is not such a path.
    """
    path = folder
    for step in relative.split("/"):
        if step in ("", ".", "..") or not step.isprintable() or set(step) & set('\\:*?"<>|') or len(step) > 255:
            message = f"the package names {shown(relative)}, which is not a plain path inside it"
            raise BundleError(message, "do not use this package: coremltools does not write such paths")
        path /= step
    try:
        # Also finds the links among the parts of the path that are not the package's own words, like Data/.
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise BundleError(f"{shown(relative)} cannot be followed ({shown(error)})", EXPORT_AGAIN) from error
    if real != path or not real.is_relative_to(root):
        message = f"{shown(relative)} leads through a link to {shown(real)}"
        raise BundleError(message, "copy the package with its links replaced by what they point at")
    return path


def shown(text: object) -> str:
    """One line of harmless characters in quotes, whatever a file put into the text."""
    line = ascii(str(text))
    return line if len(line) <= 80 else f"{line[:76]}...'"
