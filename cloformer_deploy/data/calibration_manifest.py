"""What a calibration set says of itself: where its images are from, and digests of their pixels."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloformer_deploy.data.preprocessing import Preprocessing

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ImageDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class CalibrationManifest(BaseModel):
    """A calibration set in words: as JSON in the header of its file, or alone for the set that ships.

    `sha256` is of the pixels that quantization sees: RGB uint8, (n, 3, height, width), in order. `images`
    has the `image_digest` of each. `classes` counts the images of each class; those of no class are the
    rest up to `n`, and it is None where no image has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    source: str
    sha256: Sha256
    n: Annotated[Count, Field(ge=1)]
    seed: Count
    preprocessing: Preprocessing
    classes: Mapping[str, Count] | None
    images: tuple[ImageDigest, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.images) != self.n:
            raise ValueError(f"{len(self.images)} digests of images for n = {self.n}")
        if self.classes is not None and sum(self.classes.values()) > self.n:
            raise ValueError(f"classes count {sum(self.classes.values())} images, n is {self.n}")
        return self

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the pixels: (n, 3, height, width)."""
        return self.n, 3, self.preprocessing.height, self.preprocessing.width


def image_digest(pixels: NDArray[np.uint8]) -> str:
    """The first 16 hexadecimal digits of the sha256 of a image's pixels, RGB uint8 (3, H, W)."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


class PixelDigests:
    """The digests of images that come one after the other: `images`, each one's; `sha256`, that of them all."""

    def __init__(self) -> None:
        self.images: list[str] = []
        self._whole = hashlib.sha256()

    def add(self, pixels: NDArray[np.uint8]) -> str:
        """Count in a image, RGB uint8 (3, H, W); its own digest."""
        self._whole.update(pixels.tobytes())
        self.images.append(image_digest(pixels))
        return self.images[-1]

    @property
    def sha256(self) -> str:
        """Of all images so far."""
        return self._whole.hexdigest()
