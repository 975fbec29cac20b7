"""Preprocessing of images for a network: decode, resize, crop and normalize."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from cloformer_deploy.data.decoding import MAX_PIXELS, REPAIR, decode
from cloformer_deploy.errors import DataError, RequestError
from cloformer_deploy.networks.base import COLORS, INPUT_MULTIPLE, PUBLISHED_COLOR, Color
from cloformer_deploy.system.schema import Strict

MAX_SIDE = 2048
"""Largest height and width of a model's input, pixels."""

LEAST_KEPT = 0.25
"""Share of an object's box that must be left of it for the object to count."""
_GRAY_MEAN, _GRAY_STD = 0.449, 0.226
"""Mean and deviation of channels that are no color: the averages of the published ones."""
Side = Annotated[int, Field(ge=INPUT_MULTIPLE, le=MAX_SIDE, multiple_of=INPUT_MULTIPLE)]
CoverSide = Annotated[int, Field(ge=INPUT_MULTIPLE, le=2 * MAX_SIDE)]


class Resize(Strict):
    """The resizing of images to a model's input size.

    An image is scaled, keeping its aspect ratio, to the smallest size that covers `cover`, then its center is cropped
    to the input size. For a square input this is the evaluation of the published models: the shorter side is scaled to
    size * 256 / 224, then the center is cropped.

    Attributes:
        cover: height and width that the scaled image covers, pixels.
        interpolation: resampling filter.
        crop: part of the scaled image that is kept.
        skipped_at_exact_size: an image of exactly the input size is neither scaled nor cropped.
    """

    cover: tuple[CoverSide, CoverSide]
    interpolation: Literal["bicubic"] = "bicubic"
    crop: Literal["center"] = "center"
    skipped_at_exact_size: Literal[True] = True


class Preprocessing(Strict):
    """The input size of a model, and the way from images to its input. Part of every manifest.

    Attributes:
        height: of the input, pixels; a multiple of 32.
        width: of the input, pixels; a multiple of 32.
        color: the channels and their order.
        mean: subtracted from each channel after scaling to [0, 1]: the input is (pixel / 255 - mean) / std.
        std: divides each channel after the mean is subtracted.
        resize: for images of other sizes.
    """

    height: Side
    width: Side
    color: Color = PUBLISHED_COLOR
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    resize: Resize

    @model_validator(mode="after")
    def _usable(self) -> "Preprocessing":
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean {self.mean} and std {self.std} must have one value per channel of {self.color}")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be positive")
        if self.resize.cover[0] < self.height or self.resize.cover[1] < self.width:
            raise ValueError(f"resize.cover {self.resize.cover} must be at least {self.height} x {self.width}")
        return self

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.color)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return self.channels, self.height, self.width

    @classmethod
    def published(
        cls, height: int, width: int, color: Color = PUBLISHED_COLOR, *, margin: bool = True
    ) -> "Preprocessing":
        """Return the evaluation preprocessing of the published models at this input size.

        No published model takes other colors than RGB: mean and deviation of other channels are an assumption.

        Args:
            height: of the input, pixels.
            width: of the input, pixels.
            color: the channels.
            margin: images are scaled by 256/224 more than the input needs, and the margin is cropped off. Dense tasks
                have none, so that as much of an image as its shape allows is seen.

        Raises:
            RequestError: height or width is not a multiple of 32 from 32 to `MAX_SIDE`.
        """
        for name, side in (("height", height), ("width", width)):
            if not INPUT_MULTIPLE <= side <= MAX_SIDE or side % INPUT_MULTIPLE:
                nearest = min(max(round(side / INPUT_MULTIPLE) * INPUT_MULTIPLE, INPUT_MULTIPLE), MAX_SIDE)
                raise RequestError(
                    f"input {name} {side} is not a multiple of {INPUT_MULTIPLE} from {INPUT_MULTIPLE} to {MAX_SIDE}",
                    f"the nearest valid {name} is {nearest}",
                )
        resize = Resize(cover=(height * 256 // 224, width * 256 // 224) if margin else (height, width))
        colors = 3 if color.startswith("RGB") else 0
        mean, std = (cls.model_fields[name].default[:colors] for name in ("mean", "std"))
        others = len(color) - colors
        mean, std = (*mean, *[_GRAY_MEAN] * others), (*std, *[_GRAY_STD] * others)
        return cls(height=height, width=width, color=color, mean=mean, std=std, resize=resize)

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Convert images (B, C, H, W), 0..255, to the network's input: float32, of the same shape."""
        mean = np.asarray(self.mean, np.float32).reshape(-1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(-1, 1, 1)
        scaled: NDArray[np.float32] = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        return scaled


def color_of(channels: int) -> Color:
    """Return the color of images with a number of channels, 1 to 4."""
    return next(color for color in COLORS if len(color) == channels)


def load_image(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode an image file (see `decoding.decode`) and resize it to the model's input size.

    Returns:
        uint8, (C, H, W).

    Raises:
        DataError: the file cannot be decoded, or the image is too narrow to be resized.
    """
    upright = decode(path, preprocessing.color)
    try:
        return fit(upright, preprocessing)
    except ValueError as error:
        raise DataError(f"{path} cannot be used: {error}", REPAIR) from error


def fit(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Convert an image to the model's color and input size; an image of exactly this size is not resized.

    Returns:
        uint8, (C, H, W), contiguous.

    Raises:
        ValueError: the image is too narrow: scaled, it would have more than `MAX_PIXELS` pixels.
    """
    height, width = preprocessing.height, preprocessing.width
    if image.mode != preprocessing.color:
        image = image.convert(preprocessing.color)
    if image.size != (width, height):
        # Band by band where there is alpha: Pillow would weigh the colors with it.
        parts = image.split() if image.mode.endswith("A") else (image,)
        parts = tuple(_scaled_and_cropped(part, preprocessing, Image.Resampling.BICUBIC) for part in parts)
        image = Image.merge(image.mode, parts) if len(parts) > 1 else parts[0]
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def fit_mask(mask: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Bring the class of each pixel of an image, (H, W), to the model's input size, in the way that `fit` goes.

    Each pixel takes the class of the nearest one.

    Raises:
        ValueError: see `fit`.
    """
    if mask.shape == (preprocessing.height, preprocessing.width):
        return mask
    image = _scaled_and_cropped(Image.fromarray(mask), preprocessing, Image.Resampling.NEAREST)
    return np.array(image, np.uint8)


def fit_boxes(objects: NDArray[np.float32], size: tuple[int, int], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Bring the objects of an image to the model's input, in the way that `fit` goes.

    An object of which less than `LEAST_KEPT` is left becomes ignored; one that is cropped off is left out.

    Args:
        objects: edges in pixels of the image, class, and 1 if the object is ignored, (n, 6).
        size: width and height of the image, pixels.
        preprocessing: the model's.

    Returns:
        The same with edges from 0 to 1 of the input, (n, 6).

    Raises:
        ValueError: see `fit`.
    """
    width, height = preprocessing.width, preprocessing.height
    found = objects.astype(np.float64)
    if size != (width, height):
        (scaled_width, scaled_height), left, top = _placed(size, preprocessing)
        found[:, [0, 2]] = found[:, [0, 2]] * (scaled_width / size[0]) - left
        found[:, [1, 3]] = found[:, [1, 3]] * (scaled_height / size[1]) - top
    whole = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    found[:, :4] = (found[:, :4] / [width, height, width, height]).clip(0, 1)
    kept = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1]) * (width * height)
    found[:, 5] = np.maximum(found[:, 5], kept < LEAST_KEPT * whole)
    return found[kept > 0].astype(np.float32)


def _scaled_and_cropped(image: Image.Image, preprocessing: Preprocessing, resampling: Image.Resampling) -> Image.Image:
    scaled, left, top = _placed(image.size, preprocessing)
    resized = image.resize(scaled, resampling)
    return resized.crop((left, top, left + preprocessing.width, top + preprocessing.height))


def _placed(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[tuple[int, int], int, int]:
    """Return the size to which an image is scaled, and the left and top edge of the crop, pixels."""
    height, width = preprocessing.height, preprocessing.width
    cover_height, cover_width = preprocessing.resize.cover
    # Sizes are rounded like those of torchvision, with which the published figures were measured.
    if cover_height * size[0] >= cover_width * size[1]:
        scaled = (cover_height * size[0] // size[1], cover_height)
    else:
        scaled = (cover_width, cover_width * size[1] // size[0])
    if scaled[0] * scaled[1] > MAX_PIXELS:
        raise ValueError(f"{size[0]} x {size[1]} pixels is too narrow to scale to {width} x {height}")
    return scaled, round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
