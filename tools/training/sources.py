"""Sources of labeled images: a Protocol and the image folder that follows it."""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cloformer_deploy.data.coco import open_coco
from cloformer_deploy.data.decoding import MAX_PIXELS, REPAIR
from cloformer_deploy.data.folders import open_folder
from cloformer_deploy.data.masks import open_masks
from cloformer_deploy.errors import DataError

_FORMATS = ("JPEG", "PNG", "WEBP")


class Source(Protocol):
    """Images with their targets, by number."""

    @property
    def identity(self) -> str:
        """A text that differs where the images or their labels differ."""

    @property
    def labels(self) -> Sequence[int] | None:
        """The class of each image; None where images have no single class."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        """The image, RGB, and its target: the class, the mask (`Image`, mode L), or objects (n, 6)."""


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


class MaskSource:
    """A folder with `images/` and `masks/`. The images' bytes and the masks are kept in memory."""

    labels = None

    def __init__(self, root: Path, num_classes: int) -> None:
        """Read every image and mask of the folder.

        Args:
            root: the folder.
            num_classes: values of masks are below it, or ignored.

        Raises:
            DataError: see `open_masks`; or a damaged image, or a mask of another size.
        """
        folder = open_masks(root, num_classes)
        self.warnings = folder.warnings
        self._images = [path.read_bytes() for path in folder.paths]
        self._masks = [folder.full_mask(index) for index in range(len(folder))]
        digest = hashlib.sha256()
        for path, data, mask in zip(folder.paths, self._images, self._masks, strict=True):
            problem = _problem(data)
            if problem is None and (size := _decoded(data).size) != mask.shape[::-1]:
                problem = f"its size is {size}, its mask's {mask.shape[::-1]}"
            if problem is not None:
                raise DataError(f"{path} cannot be used: {problem}", REPAIR)
            digest.update(f"{len(data)} {mask.shape} ".encode() + data + mask.tobytes())
        self.identity = f"folder of {len(self._images)} images with masks, sha256 {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Image.Image, Image.Image]:
        """The decoded image, RGB and upright, and its mask."""
        return _decoded(self._images[index]), Image.fromarray(self._masks[index])


class BoxSource:
    """Images with COCO annotations. The images' bytes are kept in memory."""

    labels = None

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        """Read every image and box.

        Args:
            path: see `open_coco`.
            classes: names of the classes, which the categories must have.

        Raises:
            DataError: see `open_coco`; or an image is damaged or of another size than its annotations say.
        """
        folder = open_coco(path, len(classes), classes)
        self.warnings = folder.warnings
        self._images = [image.read_bytes() for image in folder.paths]
        self._objects: list[NDArray[np.float32]] = []
        digest = hashlib.sha256()
        for image, data, size, objects in zip(folder.paths, self._images, folder.sizes, folder.objects, strict=True):
            problem = _problem(data)
            if problem is None and (found := _decoded(data).size) != size:
                problem = f"its size is {found}, its annotations are for {size}"
            if problem is not None:
                raise DataError(f"{image} cannot be used: {problem}", REPAIR)
            digest.update(f"{len(data)} {len(objects)} ".encode() + data + objects.tobytes())
            shares = (objects / np.array([*size, *size, 1, 1])).astype(np.float32)
            self._objects.append(shares)
        self.identity = f"COCO annotations of {len(self._images)} images, sha256 {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Image.Image, NDArray[np.float32]]:
        """The decoded image, RGB and upright, and its objects."""
        return _decoded(self._images[index]), self._objects[index]


def class_names(root: Path) -> tuple[str, ...]:
    """The sorted names of a folder's sub-folders."""
    try:
        return tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))
    except OSError as error:
        raise DataError(
            f"{root} cannot be read: {error.strerror}", "give a folder with one sub-folder a class"
        ) from error


def spread(source: Source, limit: int) -> list[int]:
    """The numbers of at most `limit` images, of each class its share, spread evenly over the class."""
    labels, count = source.labels, len(source)
    by_class = sorted(range(count), key=lambda index: 0 if labels is None else labels[index])
    limit = min(limit, count)
    return sorted(by_class[index * count // limit] for index in range(limit))


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
