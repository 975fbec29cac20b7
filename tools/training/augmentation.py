"""Training images at random, as a function of (seed, epoch, index) alone, so that a resumed run sees the same."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

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
    image: Image.Image,
    size: int,
    crop_area: float,
    strength: float,
    sharpen: float | None,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Random resized crop, flip, jitter and cutout: RGB uint8, (3, size, size).

    Args:
        image: RGB, of any size.
        size: side of the result in px.
        crop_area: lowest share of the image's area in the crop.
        strength: of jitter and cutout; at 1, brightness and contrast are multiplied by 0.7 to 1.3.
        sharpen: percent of unsharp mask, on average, for a crop that is scaled up to the double; None for none.
        rng: where all randomness comes from.
    """
    box = crop_box(image.width, image.height, crop_area, rng)
    cropped = _resized(image, box, size, sharpen, rng)
    if rng.random() < 0.5:
        cropped = cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhancer, amount in (
        (ImageEnhance.Brightness, _JITTER),
        (ImageEnhance.Contrast, _JITTER),
        (ImageEnhance.Color, _SATURATION),
    ):
        reach = amount * strength
        cropped = enhancer(cropped).enhance(rng.uniform(1 - reach, 1 + reach))
    pixels = np.array(cropped)
    _cut_out(pixels, round(size * _CUTOUT_SIDE * min(strength, 1)), rng)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _resized(
    image: Image.Image,
    box: tuple[float, float, float, float],
    size: int,
    sharpen: float | None,
    rng: np.random.Generator,
) -> Image.Image:
    """The box as a (size, size) image, sharpened if it was scaled up.

    Scaled up, an image lacks fine detail, which images at test have. BatchNorm's statistics would settle on
    that: 128 px photographs at 224 px cost 7 points of top-1 on sharp ones. Sharpening restores the detail's
    energy, though not the detail; by how much varies, as does the filter, so that no one look is learnt.
    """
    resampling = _FILTERS[rng.choice(len(_FILTERS), p=_FILTER_SHARES)]
    cropped = image.resize((size, size), resampling, box=box)
    scale = size / math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    if sharpen is None or scale <= 1 or resampling == Image.Resampling.NEAREST:
        return cropped
    percent = sharpen * (scale - 1) * rng.uniform(0.5, 1.5)
    return cropped.filter(ImageFilter.UnsharpMask(radius=1, percent=round(percent), threshold=0))


def crop_box(
    width: int, height: int, lowest_area: float, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A random box (left, top, right, bottom) in px inside the image, with sides in a ratio of 3:4 to 4:3.

    Its area is uniform between `lowest_area` and 1 of the image's; where a box does not fit, another is
    drawn, and after ten the largest centered square is taken.
    """
    for _ in range(_CROP_TRIES):
        area = width * height * rng.uniform(lowest_area, 1)
        ratio = math.exp(rng.uniform(-math.log(_ASPECT), math.log(_ASPECT)))
        box_width, box_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if box_width <= width and box_height <= height:
            left, top = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
            # Sums are rounded: they must not end outside the image.
            return left, top, min(left + box_width, width), min(top + box_height, height)
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _cut_out(pixels: NDArray[np.uint8], side: int, rng: np.random.Generator) -> None:
    """Cover a square around a random point of (H, W, 3) with the mean colour, in place."""
    row, column = rng.integers(pixels.shape[0]), rng.integers(pixels.shape[1])
    top, left = max(row - side // 2, 0), max(column - side // 2, 0)
    pixels[top : max(row - side // 2 + side, 0), left : max(column - side // 2 + side, 0)] = MEAN_COLOUR
