"""The directory that an export writes, opened for reading.

DIR/manifest.json                         what is here, with checksums
DIR/cloformer_{variant}-{precision}...    the artifacts (`manifest.artifact_name`)
DIR/weights-{checksum}.safetensors        the weights in one canonical form: the reference of every comparison
DIR/weights-{checksum}.pt2                the same of a network of one's own: its program of torch.export
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from cloformer_deploy.bundle.listed import ListedFiles
from cloformer_deploy.bundle.manifest import MANIFEST_NAME, Artifact, Manifest
from cloformer_deploy.errors import BundleError
from cloformer_deploy.system.schema import first_error


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

    @property
    def listed(self) -> ListedFiles:
        """The files of the manifest, with the copy of the weights."""
        digests = {name: sha256 for item in self.manifest.artifacts for name, sha256 in item.files.items()}
        return ListedFiles(self.root, digests | self._weights)

    @property
    def _weights(self) -> dict[str, str]:
        return {self.manifest.weights.file: self.manifest.weights.file_sha256}

    def verify(self) -> None:
        """Check that every listed file is there and has the listed checksum.

        Raises:
            BundleError: one is missing, unreadable, a link, or was changed.
        """
        self.listed.verify()

    def verify_weights(self) -> None:
        """Do as `verify` for the copy of the weights alone."""
        ListedFiles(self.root, self._weights).verify()
