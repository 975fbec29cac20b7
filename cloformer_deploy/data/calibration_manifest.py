"""The manifest of a calibration set: the source of its images, and digests of their pixels."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cloformer_deploy.data.preprocessing import Preprocessing
from cloformer_deploy.system.schema import Sha256, Strict

ImageDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class CalibrationManifest(Strict):
    """The description of a calibration set: JSON in the header of its file, or a file of its own for the bundled set.

    Attributes:
        schema_version: of this record.
        source: name of the image folder, or split and range of the rendered data set.
        sha256: SHA-256 digest of all pixels in order, RGB uint8 (n, 3, height, width).
        n: number of images.
        seed: seed of the random choice of the images.
        preprocessing: of the models that the set can calibrate; gives height and width.
        classes: images of each class; images without a class are the rest up to `n`. None if no image has a class.
        images: `image_digest` of each image, in order.
    """

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
            raise ValueError(f"images has {len(self.images)} digests, but n is {self.n}")
        if self.classes is not None and sum(self.classes.values()) > self.n:
            raise ValueError(f"classes has {sum(self.classes.values())} images, but n is {self.n}")
        return self

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the pixels: (n, channels, height, width)."""
        return self.n, self.preprocessing.channels, self.preprocessing.height, self.preprocessing.width


def image_digest(pixels: NDArray[np.uint8]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 digest of an image, RGB uint8 (3, H, W)."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


class PixelDigests:
    """Digests of images that are added one by one.

    Attributes:
        images: `image_digest` of each image so far, in order.
    """

    def __init__(self) -> None:
        self.images: list[str] = []
        self._whole = hashlib.sha256()

    def add(self, pixels: NDArray[np.uint8]) -> str:
        """Add an image, RGB uint8 (3, H, W), and return its `image_digest`."""
        self._whole.update(pixels.tobytes())
        self.images.append(image_digest(pixels))
        return self.images[-1]

    @property
    def sha256(self) -> str:
        """SHA-256 digest of the pixels of all images so far, in order."""
        return self._whole.hexdigest()
