"""Folders of images, labeled by sub-folder or not, read as a stream of batches."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloformer_deploy.data.batches import Batch, stream
from cloformer_deploy.data.preprocessing import IMAGE_SUFFIXES, Preprocessing, load_image
from cloformer_deploy.errors import DataError


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder in reading order; `labels` is parallel to `paths`, or None.

    `warnings` says what was assumed about the labels, for the user to check.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: tuple[int, ...] | None
    warnings: tuple[str, ...] = ()

    def limited(self, limit: int | None) -> "ImageFolder":
        """At most `limit` images, spread evenly over the folder so that every class keeps its share."""
        if limit is None or limit >= len(self.paths):
            return self
        return self.select([index * len(self.paths) // limit for index in range(limit)])

    def select(self, indices: Sequence[int]) -> "ImageFolder":
        """See `Dataset.select`."""
        labels = tuple(self.labels[index] for index in indices) if self.labels else None
        return ImageFolder(self.root, tuple(self.paths[index] for index in indices), labels, self.warnings)

    def identity(self, index: int) -> str:
        """The SHA-256 of the file; see `Dataset.identity`."""
        try:
            return hashlib.sha256(self.paths[index].read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"{self.paths[index]} cannot be read: {error.strerror}", "check its permissions") from error

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.root)

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """See `Images.batches`."""
        return stream(self.paths, self.labels, lambda path: load_image(path, preprocessing), size)


def open_folder(root: Path, num_classes: int, labels: Sequence[str] | None) -> ImageFolder:
    """List a folder: one sub-folder a class, or images side by side (unlabeled).

    Sub-folders are matched by name to the model's `labels` where the names are known there; otherwise
    their sorted names are the labels 0..N-1.

    Raises:
        DataError: no such folder, unreadable, no images, both layouts at once, more sub-folders than
            classes, or sub-folders of which only some are labels of the model.
    """
    flat, by_class = list_images(root)
    if flat and any(by_class.values()):
        raise DataError(
            f"{root} holds {len(flat)} images beside sub-folders with images",
            "use one sub-folder a class, or one flat folder",
        )
    if flat:
        return ImageFolder(root, tuple(flat), None)
    indices, warnings = _class_indices(root, list(by_class), num_classes, labels)
    paths = [(path, index) for images, index in zip(by_class.values(), indices, strict=True) for path in images]
    return ImageFolder(root, tuple(path for path, _ in paths), tuple(index for _, index in paths), warnings)


def list_images(root: Path) -> tuple[list[Path], dict[str, list[Path]]]:
    """The images directly in a folder, and those of each of its sub-folders, by name; all in sorted order.

    Hidden files and folders are left out. A sub-folder may be a link; links to folders further down are not followed.

    Raises:
        DataError: no such folder, unreadable, or no images.
    """
    try:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder", "give a folder of JPEG, PNG or WebP images")
        flat = _images(root, recursive=False)
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        by_class = {folder.name: _images(folder, recursive=True) for folder in folders}
    except OSError as error:
        raise DataError(
            f"{error.filename or root} cannot be read: {error.strerror}", "check its permissions"
        ) from error
    if not flat and not any(by_class.values()):
        raise DataError(f"{root} holds no JPEG, PNG or WebP images", "give the folder that holds them")
    return flat, by_class


def _images(folder: Path, *, recursive: bool) -> list[Path]:
    """The images in a folder, neither hidden nor in a hidden folder; links to folders are not followed."""

    def fail(error: OSError) -> None:  # os.walk, like Path.rglob, would pass over a folder it cannot read
        raise error

    found = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _class_indices(
    root: Path, names: list[str], num_classes: int, labels: Sequence[str] | None
) -> tuple[list[int], tuple[str, ...]]:
    known = {label: index for index, label in enumerate(labels or ())}
    unknown = [name for name in names if name not in known]
    if not unknown:
        return [known[name] for name in names], ()
    if len(unknown) < len(names):
        raise DataError(
            f"{root}: sub-folders {', '.join(unknown[:3])} are not labels of the model, the others are",
            "rename them, or rename all so that their sorted order is the classes' order",
        )
    if len(names) > num_classes:
        raise DataError(
            f"{root} has {len(names)} sub-folders, the model {num_classes} classes",
            "give one sub-folder a class, or a flat folder of unlabeled images",
        )
    indices = list(range(len(names)))
    if len(names) == num_classes and labels is None:
        return indices, ()
    if len(names) == num_classes:
        warning = (
            f"the sub-folders of {root} are not named like the model's labels: in sorted order, "
            f"{names[0]} is taken as {next(iter(known))}, ..., {names[-1]} as {list(known)[-1]}"
        )
    else:
        warning = (
            f"{root} has {len(names)} sub-folders, the model {num_classes} classes: "
            f"{names[0]} is taken as class 0, ..., {names[-1]} as class {len(names) - 1}"
        )
    return indices, (warning,)
