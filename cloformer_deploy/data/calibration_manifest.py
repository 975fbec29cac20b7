"""What a calibration set says of itself: where its pictures are from, and digests of their pixels."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloformer_deploy.data.preprocessing import Preprocessing

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PictureDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class CalibrationManifest(BaseModel):
    """A calibration set in words: as JSON in the header of its file, or alone for the set that ships.

    `sha256` is of the pixels that quantisation sees: RGB uint8, (n, 3, height, width), in order. `pictures`
    has the `picture_digest` of each. `classes` counts the pictures of each class; those of no class are the
    rest up to `n`, and it is None where no picture has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    source: str
    sha256: Sha256
    n: Annotated[Count, Field(ge=1)]
    seed: Count
    preprocessing: Preprocessing
    classes: Mapping[str, Count] | None
    pictures: tuple[PictureDigest, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.pictures) != self.n:
            raise ValueError(f"{len(self.pictures)} digests of pictures for n = {self.n}")
        if self.classes is not None and sum(self.classes.values()) > self.n:
            raise ValueError(f"classes count {sum(self.classes.values())} pictures, n is {self.n}")
        return self

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the pixels: (n, 3, height, width)."""
        return self.n, 3, self.preprocessing.height, self.preprocessing.width


def picture_digest(pixels: NDArray[np.uint8]) -> str:
    """The first 16 hexadecimal digits of the sha256 of a picture's pixels, RGB uint8 (3, H, W)."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


class PixelDigests:
    """The digests of pictures that come one after the other: `pictures`, each one's; `sha256`, that of them all."""

    def __init__(self) -> None:
        self.pictures: list[str] = []
        self._whole = hashlib.sha256()

    def add(self, pixels: NDArray[np.uint8]) -> str:
        """Count in a picture, RGB uint8 (3, H, W); its own digest."""
        self._whole.update(pixels.tobytes())
        self.pictures.append(picture_digest(pixels))
        return self.pictures[-1]

    @property
    def sha256(self) -> str:
        """Of all pictures so far."""
        return self._whole.hexdigest()
