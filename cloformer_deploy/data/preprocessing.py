"""From a image file to the pixels the network sees: decode, resize, crop, normalize."""

import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloformer_deploy.errors import DataError, RequestError
from cloformer_deploy.networks.base import INPUT_MULTIPLE

MAX_SIDE = 2048
MAX_PIXELS = 100_000_000
REPAIR = "repair it or leave it out of the folder"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

Triple = tuple[float, float, float]
Side = Annotated[int, Field(ge=INPUT_MULTIPLE, le=MAX_SIDE, multiple_of=INPUT_MULTIPLE)]
CoverSide = Annotated[int, Field(ge=INPUT_MULTIPLE, le=2 * MAX_SIDE)]


class Resize(BaseModel):
    """How a image that is not already of the input's size is brought to it.

    It is scaled, keeping its proportions, until it just covers `cover` (height, width), then cropped
    at its centre to the input's size. For a square input that is the published evaluation: short side
    to size * 256 / 224, centre crop.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cover: tuple[CoverSide, CoverSide]
    interpolation: Literal["bicubic"] = "bicubic"
    crop: Literal["center"] = "center"
    skipped_at_exact_size: Literal[True] = True


class Preprocessing(BaseModel):
    """The input of a model: its size and how pixels become numbers. Part of every manifest.

    `mean` and `std` are of RGB scaled to [0, 1]; a network sees (pixel / 255 - mean) / std.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: Side
    width: Side
    color: Literal["RGB"] = "RGB"
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    resize: Resize

    @model_validator(mode="after")
    def _usable(self) -> "Preprocessing":
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite, and std positive")
        if self.resize.cover[0] < self.height or self.resize.cover[1] < self.width:
            raise ValueError(f"resize.cover {self.resize.cover} must be at least {self.height} x {self.width}")
        return self

    @classmethod
    def published(cls, height: int, width: int) -> "Preprocessing":
        """The published models' evaluation preprocessing at this input size.

        Raises:
            RequestError: a side is not a multiple of 32, or out of range.
        """
        for name, side in (("height", height), ("width", width)):
            if not INPUT_MULTIPLE <= side <= MAX_SIDE or side % INPUT_MULTIPLE:
                nearest = min(max(round(side / INPUT_MULTIPLE) * INPUT_MULTIPLE, INPUT_MULTIPLE), MAX_SIDE)
                raise RequestError(
                    f"input {name} {side} is not a multiple of {INPUT_MULTIPLE} from {INPUT_MULTIPLE} to {MAX_SIDE}",
                    f"the nearest that works is {nearest}",
                )
        return cls(height=height, width=width, resize=Resize(cover=(height * 256 // 224, width * 256 // 224)))

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 3, H, W) RGB 0..255 to the network's float32 input of the same shape."""
        mean = np.asarray(self.mean, np.float32).reshape(3, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(3, 1, 1)
        scaled: NDArray[np.float32] = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        return scaled


def load_image(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode a image and bring it to the input's size: RGB uint8, (3, H, W).

    A image that already has the input's size is taken as it is. EXIF orientation is applied; alpha is
    dropped; 16-bit greyscale keeps its 8 high bits.

    Raises:
        DataError: not a JPEG, PNG or WebP, damaged, or of more than 100 million pixels.
    """
    try:
        with _decoder(path)(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}")
            upright = _rgb(image)
    except DataError:
        raise
    except Exception as error:  # damaged bytes come out of the decoders as nearly any kind
        raise DataError(f"{path} cannot be decoded: {error}", REPAIR) from error
    try:
        return fit(upright, preprocessing)
    except ValueError as error:
        raise DataError(f"{path} cannot be used: {error}", REPAIR) from error


def _decoder(path: Path) -> type[JpegImageFile | PngImageFile | WebPImageFile]:
    """The decoder for a file's first bytes.

    Not Image.open: it has decoders that run foreign programs (EPS), and gives large images a warning,
    which cannot be held back in one thread alone.
    """
    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith(b"\xff\xd8\xff"):
        return JpegImageFile
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile
    if start.startswith(b"RIFF") and start.endswith(b"WEBP"):
        return WebPImageFile
    raise DataError(f"{path} is not a JPEG, PNG or WebP image", REPAIR)


def _rgb(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "P":  # straight to RGB, alpha in the palette would give a warning
        upright = upright.convert("RGBA")
    if upright.mode.startswith("I"):  # convert() would clip 16-bit values at 255
        upright = Image.fromarray((np.asarray(upright, np.int32) >> 8).clip(0, 255).astype(np.uint8))
    return upright.convert("RGB")


def fit(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Bring an RGB image to the input's size: uint8, (3, H, W). One that has it already is taken as it is.

    Raises:
        ValueError: the image is too narrow to be scaled.
    """
    height, width = preprocessing.height, preprocessing.width
    if image.size != (width, height):
        image = _scaled_and_cropped(image, preprocessing)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _scaled_and_cropped(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    height, width = preprocessing.height, preprocessing.width
    cover_height, cover_width = preprocessing.resize.cover
    # Whole numbers are rounded as torchvision does, with which the published figures were measured.
    if cover_height * image.width >= cover_width * image.height:
        scaled = (cover_height * image.width // image.height, cover_height)
    else:
        scaled = (cover_width, cover_width * image.height // image.width)
    if scaled[0] * scaled[1] > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} is too narrow to scale to {width} x {height}")
    left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
    resized = image.resize(scaled, Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + width, top + height))
