"""Files that are listed with their checksums: those of a bundle, or those that a worker is sent."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloformer_deploy.errors import BundleError


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or for a folder that of its `sha256sum` listing, sorted by relative path."""
    if path.is_dir():
        files = {os.fsencode(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
        listing = b"".join(b"%s  %s\n" % (digest(files[name]).encode(), name) for name in sorted(files))
        return hashlib.sha256(listing).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ListedFiles:
    """Files and folders below a folder. They are not trusted until `verify` has checked them.

    Attributes:
        root: the folder.
        digests: `digest` of each, by its path from there.
    """

    root: Path
    digests: Mapping[str, str]

    def verify(self) -> None:
        """Check that everything listed is there and has the listed checksum.

        Raises:
            BundleError: something is missing, unreadable, a link, or was changed.
        """
        for name, sha256 in self.digests.items():
            self._verify(self.root / name, sha256)

    def paths(self) -> dict[str, Path]:
        """Return each file, also of those inside listed folders, by its path from the root."""
        listed = [self.root / name for name in self.digests]
        files = [file for path in listed for file in (path.rglob("*") if path.is_dir() else (path,)) if file.is_file()]
        return {file.relative_to(self.root).as_posix(): file for file in files}

    def _verify(self, path: Path, sha256: str) -> None:
        if not path.is_file() and not path.is_dir():
            raise BundleError(f"{path} is listed in the manifest but missing", "export it again")
        if path.is_symlink() or any(inner.is_symlink() for inner in path.rglob("*")):
            raise BundleError(f"{path} is or holds a symbolic link", "export it again")
        try:
            found = digest(path)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
        if found != sha256:
            raise BundleError(f"{path} is not the file that was exported: its sha256 differs", "export it again")
