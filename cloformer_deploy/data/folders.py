"""Folders of images as a data set: one sub-folder per class, or a flat folder without labels."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.batches import Batch, stream
from cloformer_deploy.data.preprocessing import IMAGE_SUFFIXES, Preprocessing, load_image
from cloformer_deploy.errors import DataError


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder; see `Dataset`.

    Attributes:
        root: the folder.
        paths: the image files, in order.
        labels: class index of each image; None without labels.
        warnings: assumptions about the labels that the user should check.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: tuple[int, ...] | None
    warnings: tuple[str, ...] = ()

    def limited(self, max_images: int | None) -> "ImageFolder":
        """Return at most `max_images` images, spread evenly over the folder; see `Dataset.limited`."""
        if max_images is None or max_images >= len(self.paths):
            return self
        return self.select([index * len(self.paths) // max_images for index in range(max_images)])

    def select(self, indices: Sequence[int]) -> "ImageFolder":
        """Return a set of the images with these indices, in this order."""
        labels = tuple(self.labels[index] for index in indices) if self.labels else None
        return ImageFolder(self.root, tuple(self.paths[index] for index in indices), labels, self.warnings)

    def identity(self, index: int) -> str:
        """Return the SHA-256 digest of an image's file.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            return hashlib.sha256(self.paths[index].read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"{self.paths[index]} cannot be read: {error.strerror}", "check its permissions") from error

    def load(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return one image at the model's input size, RGB uint8 (3, H, W); see `Dataset.load`."""
        return load_image(self.paths[index], preprocessing)

    @property
    def name(self) -> str:
        """Path of the folder."""
        return str(self.root)

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """Yield all images in order, at the model's input size; see `ImageSet.batches`."""
        return stream(self.paths, self.labels, lambda path: load_image(path, preprocessing), size)


def open_folder(root: Path, num_classes: int, labels: Sequence[str] | None) -> ImageFolder:
    """Open a folder with one sub-folder per class, or a flat folder of unlabeled images.

    Sub-folders that are all named like labels of the model have the indices of these labels. Otherwise the sorted
    sub-folders have the indices 0..N-1, with a warning unless the model has N classes without names.

    Args:
        root: the folder.
        num_classes: classes of the model.
        labels: names of the model's classes, or None.

    Raises:
        DataError: the folder does not exist, is unreadable or has no images; has images beside sub-folders with images;
            has more sub-folders than the model has classes; or only some sub-folders are named like labels.
    """
    flat, by_class = list_images(root)
    if flat and any(by_class.values()):
        raise DataError(
            f"{root} holds {len(flat)} images beside sub-folders with images",
            "use one sub-folder per class, or one flat folder",
        )
    if flat:
        return ImageFolder(root, tuple(flat), None)
    indices, warnings = _class_indices(root, list(by_class), num_classes, labels)
    paths = [(path, index) for images, index in zip(by_class.values(), indices, strict=True) for path in images]
    return ImageFolder(root, tuple(path for path, _ in paths), tuple(index for _, index in paths), warnings)


def list_images(root: Path) -> tuple[list[Path], dict[str, list[Path]]]:
    """List the image files of a folder, sorted.

    Hidden files and folders are ignored. A sub-folder may be a link; links to folders further down are not followed.

    Returns:
        The images directly in the folder, and those of each sub-folder, at any depth, by its name.

    Raises:
        DataError: the folder does not exist, is unreadable, or has no images.
    """
    try:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder", "pass a folder of JPEG, PNG or WebP images")
        flat = _images(root, recursive=False)
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        by_class = {folder.name: _images(folder, recursive=True) for folder in folders}
    except OSError as error:
        raise DataError(
            f"{error.filename or root} cannot be read: {error.strerror}", "check its permissions"
        ) from error
    if not flat and not any(by_class.values()):
        raise DataError(f"{root} holds no JPEG, PNG or WebP images", "pass the folder that holds the images")
    return flat, by_class


def _images(folder: Path, *, recursive: bool) -> list[Path]:
    """Return the images in a folder, sorted, without hidden ones; links to folders are not followed."""

    def fail(error: OSError) -> None:  # without it os.walk, like Path.rglob, skips folders that it cannot read
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
            f"{root}: some sub-folders are labels of the model, but these are not: {', '.join(unknown[:3])}",
            "rename these to labels, or rename all sub-folders so that their sorted order is the order of the classes",
        )
    if len(names) > num_classes:
        raise DataError(
            f"{root} has {len(names)} sub-folders, the model {num_classes} classes",
            "use one sub-folder per class, or a flat folder of unlabeled images",
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
