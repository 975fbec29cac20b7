"""Training images at random, as a function of (seed, epoch, index) alone, so that a resumed run sees the same."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from cloformer_deploy.data.masks import IGNORED
from cloformer_deploy.data.preprocessing import LEAST_KEPT
from tools.training.recipe import Recipe, Size

Box = tuple[float, float, float, float]
Target = Image.Image | NDArray[np.float32] | None

MEAN_COLOUR = (124, 116, 104)
"""The ImageNet mean in 0..255: what is cut out becomes 0 for the network."""

# Sources are often smaller than the training size. With one filter all images would be equally soft,
# which images at test are not.
_FILTERS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.NEAREST,
)
_FILTER_SHARES = (0.3, 0.35, 0.3, 0.05)

_JITTER = 0.3
_SATURATION = 0.2
_CUTOUT_SIDE = 0.4
_ASPECT = 4 / 3
_CROP_TRIES = 10


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The source of randomness for one image in one epoch."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch, index))))


def augment(
    image: Image.Image, target: Target, size: Size, recipe: Recipe, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Random resized crop, flip, jitter and cutout.

    Args:
        image: RGB, of any size.
        target: class of each pixel, of the image's size; or objects (n, 6), see `data.coco`; or None.
        size: height and width of the result in px.
        recipe: its `crop_area`, `augmentation` and `sharpen` count.
        rng: where all randomness comes from.

    Returns:
        RGB uint8, (3, height, width), and the target: the mask, uint8 (height, width), in which what is cut out is
        ignored; the objects, float32 (n, 6); or nothing, (0,).
    """
    box = crop_box(image.width, image.height, recipe.crop_area, rng, size[1] / size[0])
    cropped = _resized(image, box, size, recipe.sharpen, rng)
    flipped = bool(rng.random() < 0.5)
    if flipped:
        cropped = cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhancer, amount in (
        (ImageEnhance.Brightness, _JITTER),
        (ImageEnhance.Contrast, _JITTER),
        (ImageEnhance.Color, _SATURATION),
    ):
        reach = amount * recipe.augmentation
        cropped = enhancer(cropped).enhance(rng.uniform(1 - reach, 1 + reach))
    pixels = np.array(cropped)
    hole = _hole(size, round(min(size) * _CUTOUT_SIDE * min(recipe.augmentation, 1)), rng)
    pixels[hole] = MEAN_COLOUR
    wanted: NDArray[Any] = np.empty(0)
    if isinstance(target, Image.Image):
        wanted = _mask(target, box, size, hole, flipped=flipped)
    elif target is not None:
        wanted = moved_objects(target, box, image.size, flipped=flipped)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), wanted


def _mask(mask: Image.Image, box: Box, size: Size, hole: tuple[slice, slice], *, flipped: bool) -> NDArray[np.uint8]:
    mask = mask.resize(size[::-1], Image.Resampling.NEAREST, box=box)
    if flipped:
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    classes = np.array(mask, np.uint8)
    classes[hole] = IGNORED
    return classes


def moved_objects(
    objects: NDArray[np.float32], box: Box, size: tuple[int, int], *, flipped: bool
) -> NDArray[np.float32]:
    """Objects of an image as they are in a crop, edges from 0 to 1 of it; see `preprocessing.LEAST_KEPT`.

    Args:
        objects: edges from 0 to 1 of the image, class, and 1 if the object is ignored, (n, 6).
        box: left, top, right and bottom edge of the crop, px.
        size: width and height of the image, px.
        flipped: the crop is mirrored left to right.
    """
    found = objects.astype(np.float64)
    found[:, [0, 2]] = (found[:, [0, 2]] * size[0] - box[0]) / (box[2] - box[0])
    found[:, [1, 3]] = (found[:, [1, 3]] * size[1] - box[1]) / (box[3] - box[1])
    if flipped:
        found[:, [0, 2]] = 1 - found[:, [2, 0]]
    before = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    found[:, :4] = found[:, :4].clip(0, 1)
    kept = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    found[:, 5] = np.maximum(found[:, 5], kept < LEAST_KEPT * before)
    return found[kept > 0].astype(np.float32)


def _resized(
    image: Image.Image,
    box: Box,
    size: Size,
    sharpen: float | None,
    rng: np.random.Generator,
) -> Image.Image:
    """The box as an image of a height and width, sharpened if it was scaled up.

    Scaled up, an image lacks fine detail, which images at test have. BatchNorm's statistics would settle on
    that: 128 px photographs at 224 px cost 7 points of top-1 on sharp ones. Sharpening restores the detail's
    energy, though not the detail; by how much varies, as does the filter, so that no one look is learnt.
    """
    resampling = _FILTERS[rng.choice(len(_FILTERS), p=_FILTER_SHARES)]
    cropped = image.resize(size[::-1], resampling, box=box)
    scale = math.sqrt(size[0] * size[1] / ((box[2] - box[0]) * (box[3] - box[1])))
    if sharpen is None or scale <= 1 or resampling == Image.Resampling.NEAREST:
        return cropped
    percent = sharpen * (scale - 1) * rng.uniform(0.5, 1.5)
    return cropped.filter(ImageFilter.UnsharpMask(radius=1, percent=round(percent), threshold=0))


def crop_box(width: int, height: int, lowest_area: float, rng: np.random.Generator, aspect: float = 1) -> Box:
    """A random box (left, top, right, bottom) in px inside the image, with sides in a ratio of 3:4 to 4:3.

    Its area is uniform between `lowest_area` and 1 of the image's; where a box does not fit, another is
    drawn, and after ten the largest centered one is taken. `aspect` (width by height) multiplies the ratio.
    """
    for _ in range(_CROP_TRIES):
        area = width * height * rng.uniform(lowest_area, 1)
        ratio = aspect * math.exp(rng.uniform(-math.log(_ASPECT), math.log(_ASPECT)))
        box_width, box_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if box_width <= width and box_height <= height:
            left, top = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
            # Sums are rounded: they must not end outside the image.
            return left, top, min(left + box_width, width), min(top + box_height, height)
    high = min(width / aspect, height)
    wide = high * aspect
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high


def _hole(size: Size, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A square around a random point, as far as it is inside: rows and columns."""
    row, column = rng.integers(size[0]), rng.integers(size[1])
    top, left = max(row - side // 2, 0), max(column - side // 2, 0)
    return slice(top, max(row - side // 2 + side, 0)), slice(left, max(column - side // 2 + side, 0))
