"""Folders of images as a data set: one sub-folder per class, or a flat folder without labels."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.batches import Batch, batches_of, evenly
from cloformer_deploy.data.class_names import check_no_splits, class_indices, comparable
from cloformer_deploy.data.decoding import KINDS, is_image, is_unread_image
from cloformer_deploy.data.preprocessing import Preprocessing, load_image
from cloformer_deploy.errors import DataError
from cloformer_deploy.system.text import listed

SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
"""Folders that operating systems and storage devices add."""
_KINDS = ", ".join(kind.name for kind in KINDS)


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
        kept = evenly(len(self.paths), max_images)
        return self if len(kept) == len(self.paths) else self.select(kept)

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

    def truth(self, index: int, preprocessing: Preprocessing) -> None:
        """Return nothing: a class is all that the images have; see `Dataset.truth`."""

    @property
    def has_targets(self) -> bool:
        """True if the images have classes."""
        return self.labels is not None

    @property
    def name(self) -> str:
        """Path of the folder."""
        return str(self.root)

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """Yield all images in order, at the model's input size; see `ImageSet.batches`."""
        return batches_of(self, preprocessing, size)


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, sorted.

    Attributes:
        flat: images directly in the folder.
        by_class: images of each sub-folder, at any depth, by its name; a sub-folder without images is empty.
        warnings: what was left out.
    """

    flat: list[Path]
    by_class: dict[str, list[Path]]
    warnings: tuple[str, ...]


def open_folder(root: Path, num_classes: int, labels: Sequence[str] | None) -> ImageFolder:
    """Open a folder with one sub-folder per class, or a flat folder of unlabeled images.

    Sub-folders are matched with classes as `class_names.class_indices` says. Sub-folders without images that are not
    named like a label are left out, with a warning.

    Args:
        root: the folder.
        num_classes: classes of the model.
        labels: names of the model's classes, or None.

    Raises:
        DataError: the folder does not exist, is unreadable or has no images; has images beside sub-folders with images;
            or its sub-folders do not fit the classes.
    """
    listing = list_images(root)
    flat, by_class, warnings = listing.flat, listing.by_class, listing.warnings
    if flat and any(by_class.values()):
        raise DataError(
            f"{root} holds {len(flat)} images beside sub-folders with images",
            "use one sub-folder per class, or one flat folder",
        )
    if flat:
        return ImageFolder(root, tuple(flat), None, warnings)
    known = {comparable(label) for label in labels or ()}
    # Without labels an empty folder can only be told to be a class by the number of folders.
    all_classes = labels is None and len(by_class) == num_classes
    kept = [name for name, images in by_class.items() if images or all_classes or comparable(name) in known]
    left_out = [name for name in by_class if name not in kept]
    if left_out:
        warnings += (f"folders of {root} without images are left out: {listed(left_out)}",)
    empty = [name for name in kept if not by_class[name]]
    if empty:
        warnings += (f"classes without images in {root}: {listed(empty)}",)
    indices = class_indices(root, kept, num_classes, labels)
    paths = [(path, index) for name, index in zip(kept, indices, strict=True) for path in by_class[name]]
    return ImageFolder(root, tuple(path for path, _ in paths), tuple(index for _, index in paths), warnings)


def open_images(root: Path) -> ImageFolder:
    """Open all images of a folder and its sub-folders, unlabeled.

    Raises:
        DataError: the folder does not exist, is unreadable or has no images.
    """
    listing = list_images(root)
    paths = sorted([*listing.flat, *(path for images in listing.by_class.values() for path in images)])
    return ImageFolder(root, tuple(paths), None, listing.warnings)


def list_images(root: Path) -> Listing:
    """List the image files of a folder.

    Hidden files and folders, and those of operating systems, are ignored. A sub-folder may be a link; links to folders
    further down are not followed.

    Raises:
        DataError: the folder does not exist, is unreadable, has no images, or has a sub-folder for each split.
    """
    unread: Counter[str] = Counter()
    try:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder", f"pass a folder of images ({_KINDS})")
        flat = _images(root, unread, recursive=False)
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not _is_system(path.name))
        by_class = {folder.name: _images(folder, unread, recursive=True) for folder in folders}
    except OSError as error:
        raise DataError(
            f"{error.filename or root} cannot be read: {error.strerror}", "check its permissions"
        ) from error
    told = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items()))
    if not flat and not any(by_class.values()):
        raise DataError(
            f"{root} holds no images that are read" + (f" ({told} are not)" if told else ""),
            f"pass the folder that holds the images ({_KINDS})",
        )
    check_no_splits(root, [name for name, images in by_class.items() if images])
    warnings = (f"images of kinds that are not read are left out of {root}: {told}",) if told else ()
    return Listing(flat, by_class, warnings)


def _is_system(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM_FOLDERS


def _images(folder: Path, unread: Counter[str], *, recursive: bool) -> list[Path]:
    """Return the images in a folder, sorted, without hidden ones; links to folders are not followed.

    Args:
        folder: the folder.
        unread: receives the number of images of kinds that are not read, by suffix.
        recursive: include sub-folders.
    """

    def fail(error: OSError) -> None:  # without it os.walk, like Path.rglob, skips folders that it cannot read
        raise error

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if recursive and not _is_system(name)]
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    unread.update(path.suffix.lower() for path in files if is_unread_image(path))
    return sorted(path for path in files if is_image(path) and path.is_file())
