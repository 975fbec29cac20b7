"""Sources of labeled images: a Protocol and the image folder that follows it."""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps

from cloformer_deploy.data.decoding import MAX_PIXELS, REPAIR
from cloformer_deploy.data.folders import open_folder
from cloformer_deploy.errors import DataError

_FORMATS = ("JPEG", "PNG", "WEBP")


class Source(Protocol):
    """Labeled images by number; `labels` are the numbers of their classes, in the same order."""

    @property
    def identity(self) -> str:
        """A text that differs where the images or their labels differ."""

    @property
    def labels(self) -> Sequence[int]:
        """The class of each image."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """The image, RGB, and its class."""


class FolderSource:
    """An image folder: one sub-folder a class. The files' bytes are kept in memory, and decoded each time.

    `warnings` says what was assumed about the labels, for the user to check.
    """

    def __init__(self, root: Path, classes: Sequence[str] | None = None) -> None:
        """Read every image of the folder.

        Args:
            root: the folder.
            classes: names of the classes, which the sub-folders must have; None takes the sorted sub-folders.

        Raises:
            DataError: no images, no sub-folders, sub-folders of other names than the classes, or a damaged image.
        """
        self.classes = class_names(root)
        folder = open_folder(root, len(classes or self.classes), classes)
        if folder.labels is None:
            raise DataError(f"{root} has no sub-folders, so no labels", "give a folder with one sub-folder a class")
        self.labels, self.warnings = folder.labels, folder.warnings
        self._files = [path.read_bytes() for path in folder.paths]
        # Found now, a damaged image costs a minute; found in the third epoch, a night.
        with ThreadPoolExecutor() as pool:
            for path, problem in zip(folder.paths, pool.map(_problem, self._files), strict=True):
                if problem is not None:
                    raise DataError(f"{path} cannot be decoded: {problem}", REPAIR)
        digest = hashlib.sha256()
        for file, label in zip(self._files, self.labels, strict=True):
            digest.update(f"{label} {len(file)} ".encode() + file)
        self.identity = f"folder of {len(self._files)} images, sha256 {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """The decoded image, RGB and upright, and its class."""
        return _decoded(self._files[index]), self.labels[index]


def class_names(root: Path) -> tuple[str, ...]:
    """The sorted names of a folder's sub-folders."""
    try:
        return tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))
    except OSError as error:
        raise DataError(
            f"{root} cannot be read: {error.strerror}", "give a folder with one sub-folder a class"
        ) from error


def spread(labels: Sequence[int], limit: int) -> list[int]:
    """The numbers of at most `limit` images, of each class its share, spread evenly over the class."""
    by_class = sorted(range(len(labels)), key=lambda index: labels[index])
    limit = min(limit, len(labels))
    return sorted(by_class[index * len(labels) // limit] for index in range(limit))


def _decoded(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _problem(data: bytes) -> str | None:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}"
            image.load()
    except Exception as error:  # damaged bytes come out of the decoders as nearly any kind
        return str(error)
    return None
