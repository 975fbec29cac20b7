"""The directory that an export writes, opened for reading.

DIR/manifest.json                         what is here, with checksums
DIR/cloformer_{variant}-{precision}...    the artifacts (`manifest.artifact_name`)
DIR/weights-{checksum}.safetensors        the weights in one canonical form: the reference of every comparison
DIR/weights-{checksum}.pt2                the same of a network of one's own: its program of torch.export
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from cloformer_deploy.bundle.manifest import MANIFEST_NAME, Artifact, Manifest
from cloformer_deploy.errors import BundleError
from cloformer_deploy.system.schema import first_error


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or for a folder that of its `sha256sum` listing, sorted by relative path."""
    if path.is_dir():
        files = {os.fsencode(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
        listing = b"".join(b"%s  %s\n" % (digest(files[name]).encode(), name) for name in sorted(files))
        return hashlib.sha256(listing).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@dataclass(frozen=True)
class Bundle:
    """A bundle opened for reading. Its files are not trusted until `verify` has checked them."""

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, root: Path) -> "Bundle":
        """Read a bundle's manifest.

        Raises:
            BundleError: no bundle, or a manifest that is damaged or of another schema.
        """
        path = root / MANIFEST_NAME
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise BundleError(f"{root} is not a bundle: it has no {MANIFEST_NAME}", "make one with export") from None
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}", "give a bundle's folder") from error
        try:
            return cls(root, Manifest.model_validate_json(content))
        except ValidationError as error:
            raise BundleError(
                f"{path} is damaged or of another version: {first_error(error)}", "export again with --overwrite"
            ) from error

    def path(self, artifact: Artifact) -> Path:
        """Return the path of an artifact."""
        return self.root / artifact.path

    @property
    def weights_path(self) -> Path:
        """Path of the canonical copy of the weights."""
        return self.root / self.manifest.weights.file

    def verify(self) -> None:
        """Check that every listed file is there and has the listed checksum.

        Raises:
            BundleError: one is missing, unreadable, a link, or was changed.
        """
        for item in self.manifest.artifacts:
            for name, sha256 in item.files.items():
                self._verify(name, sha256)
        self.verify_weights()

    def verify_weights(self) -> None:
        """Do as `verify` for the copy of the weights alone."""
        self._verify(self.manifest.weights.file, self.manifest.weights.file_sha256)

    def _verify(self, name: str, sha256: str) -> None:
        path = self.root / name
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
