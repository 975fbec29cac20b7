"""Folders of images with masks, for semantic segmentation: `images/` and `masks/`, with files of the same names."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from cloformer_deploy.data.batches import Batch, batches_of, evenly
from cloformer_deploy.data.decoding import MAX_PIXELS, decode
from cloformer_deploy.data.folders import list_images
from cloformer_deploy.data.preprocessing import Preprocessing, fit_mask, load_image
from cloformer_deploy.errors import DataError
from cloformer_deploy.system.text import counted, listed

IMAGES, MASKS = "images", "masks"
IGNORED = 255
"""Value of the pixels in a mask whose class does not count."""
FORM = f"{IMAGES}/ and {MASKS}/ with files of the same names; masks are PNG, palette or grey, value = class"
"""Form of labeled data."""


@dataclass(frozen=True)
class MaskFolder:
    """Images with a mask each; see `Dataset`.

    Attributes:
        root: the folder.
        paths: the image files, in order.
        mask_paths: the mask of each.
        num_classes: values of masks are below it, or `IGNORED`.
        warnings: what was left out.
        labels: None: an image has no single class.
        has_targets: true: the masks.
    """

    root: Path
    paths: tuple[Path, ...]
    mask_paths: tuple[Path, ...]
    num_classes: int
    warnings: tuple[str, ...] = ()
    labels: None = None
    has_targets: bool = True

    @property
    def name(self) -> str:
        """Path of the folder."""
        return str(self.root)

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, indices: Sequence[int]) -> "MaskFolder":
        """Return a set of the images with these indices, in this order."""
        paths, masks = (tuple(each[index] for index in indices) for each in (self.paths, self.mask_paths))
        return replace(self, paths=paths, mask_paths=masks)

    def limited(self, max_images: int | None) -> "MaskFolder":
        """Return at most `max_images` images, spread evenly over the folder; see `Dataset.limited`."""
        kept = evenly(len(self.paths), max_images)
        return self if len(kept) == len(self.paths) else self.select(kept)

    def identity(self, index: int) -> str:
        """Return the SHA-256 digests of an image's file and of its mask's.

        Raises:
            DataError: a file cannot be read.
        """
        return " ".join(hashlib.sha256(_read(each[index])).hexdigest() for each in (self.paths, self.mask_paths))

    def load(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return one image at the model's input size, uint8 (C, H, W); see `Dataset.load`."""
        return load_image(self.paths[index], preprocessing)

    def truth(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return the class of each pixel of an image at the model's input size, uint8 (H, W), or `IGNORED`.

        Raises:
            DataError: the mask cannot be used, or has another size than its image.
        """
        path, mask = self.paths[index], self.full_mask(index)
        size = decode(path, "L").size
        if mask.shape != size[::-1]:
            found = f"{mask.shape[1]} x {mask.shape[0]}"
            raise DataError(
                f"{self.mask_paths[index]} has {found} pixels, its image {size[0]} x {size[1]}",
                "give each image a mask of its size",
            )
        return fit_mask(mask, preprocessing)

    def full_mask(self, index: int) -> NDArray[np.uint8]:
        """Return a mask in its own size, uint8 (H, W).

        Raises:
            DataError: it cannot be used.
        """
        return read_mask(self.mask_paths[index], self.num_classes)

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """Yield all images in order, at the model's input size; see `ImageSet.batches`."""
        return batches_of(self, preprocessing, size)


def has_masks(root: Path) -> bool:
    """Tell whether a folder has the form of segmentation data."""
    return (root / IMAGES).is_dir() and (root / MASKS).is_dir()


def open_masks(root: Path, num_classes: int) -> MaskFolder:
    """Open a folder of images with masks.

    Args:
        root: holds `images/` and `masks/`.
        num_classes: classes of the model.

    Raises:
        DataError: a folder is missing or unreadable, an image has no mask, or two images share one.
    """
    missing = [name for name in (IMAGES, MASKS) if not (root / name).is_dir()]
    if missing:
        raise DataError(f"{root} has no folder {' and '.join(missing)}", f"labeled data is {FORM}")
    images, masks = (list_images(root / name) for name in (IMAGES, MASKS))
    by_stem = {path.stem: path for path in masks.flat}
    stems = [path.stem for path in images.flat]
    lacking = [path.name for path in images.flat if path.stem not in by_stem]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    if lacking or twice or not stems:
        what = f"{counted(len(lacking), 'image')} of {root} without a mask: {listed(lacking)}"
        if twice:
            what = f"several images of {root} share a mask: {listed(twice)}"
        raise DataError(what if stems else f"{root / IMAGES} holds no images directly", f"labeled data is {FORM}")
    unused = sorted(by_stem.keys() - set(stems))
    told = (f"masks of {root} without an image are left out: {listed(unused)}",) if unused else ()
    warnings = (*images.warnings, *masks.warnings, *told)
    return MaskFolder(root, tuple(images.flat), tuple(by_stem[stem] for stem in stems), num_classes, warnings)


def read_mask(path: Path, num_classes: int) -> NDArray[np.uint8]:
    """Read a mask: PNG, palette or grey, value = class, `IGNORED` = does not count. Returns uint8 (H, W).

    Raises:
        DataError: it is of another kind, damaged or too large, or has other values.
    """
    try:
        with PngImageFile(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path} has more than {MAX_PIXELS:,} pixels", "scale the image and its mask down")
            if image.mode not in ("P", "L", "1", "I;16", "I"):
                raise DataError(
                    f"{path} is a PNG of mode {image.mode}, in which no value is a class",
                    "save masks with a palette, or grey",
                )
            values = np.asarray(image)
    except DataError:
        raise
    except Exception as error:  # on damaged bytes the decoder raises nearly any class
        raise DataError(f"{path} cannot be read as a PNG mask: {error}", f"labeled data is {FORM}") from error
    wrong = np.unique(values[(values >= num_classes) & (values != IGNORED)])
    if wrong.size:
        told = listed(map(str, wrong.tolist()))
        raise DataError(
            f"{path} has values that are no classes: {told} (the model has {num_classes} classes)",
            f"values are 0 to {num_classes - 1}, and {IGNORED} where the class does not count",
        )
    return np.ascontiguousarray(values, np.uint8)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check its permissions") from error


def save_mask(mask: NDArray[np.uint8], path: Path) -> None:
    """Write a mask, uint8 (H, W), as a PNG file with `palette`'s colors."""
    image = Image.fromarray(mask, "L")
    image.putpalette(palette().tobytes())
    image.save(path, "PNG", compress_level=1)


def palette() -> NDArray[np.uint8]:
    """Return a color of each value of a mask, RGB uint8 (256, 3): those of the PASCAL VOC development kit.

    The bits of a value, three at a time from the lowest, are the bits of red, green and blue from the highest.
    """
    values = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for group in range(8):
        for channel in range(3):
            bit = values >> (3 * group + channel) & 1
            colors[:, channel] |= (bit << (7 - group)).astype(np.uint8)
    return colors
