"""Calibration sets: the pixels that ranges are measured on, from a file, or made again from a recipe that ships."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.batches import Batch
from cloformer_deploy.data.calibration_file import MAKE_AGAIN, read_header, read_pixels
from cloformer_deploy.data.calibration_manifest import CalibrationManifest, PixelDigests
from cloformer_deploy.data.preprocessing import Preprocessing
from cloformer_deploy.data.rendered import RenderedImages
from cloformer_deploy.errors import DataError
from cloformer_deploy.system.packages import shipped_folder

RELIABLE_COUNT = 32
"""Ranges from fewer images depend much on which these are."""


@dataclass(frozen=True)
class CalibrationSet:
    """ImageSet that have the input's size already. `is_bundled` is true of the set that ships.

    They are held against the manifest's digests as they are read.
    """

    name: str
    manifest: CalibrationManifest
    is_bundled: bool
    read: Callable[[int], Iterator[NDArray[np.uint8]]]

    @property
    def sha256(self) -> str:
        """Of all pixels, (n, 3, height, width) uint8, in order."""
        return self.manifest.sha256

    @property
    def n(self) -> int:
        """How many images."""
        return self.manifest.n

    @property
    def seed(self) -> int:
        """What they were chosen with."""
        return self.manifest.seed

    @property
    def preprocessing(self) -> Preprocessing:
        """What they were made for."""
        return self.manifest.preprocessing

    @property
    def image_digests(self) -> tuple[str, ...]:
        """The `image_digest` of each, in order."""
        return self.manifest.images

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `Images.warnings`."""
        if self.n >= RELIABLE_COUNT:
            return ()
        return (f"ranges from {self.n} images are unreliable: calibrate with {RELIABLE_COUNT} or more",)

    def __len__(self) -> int:
        return self.n

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """The images in order, without labels; the last batch may be smaller.

        Raises:
            DataError: the set was made for another preprocessing; or its pixels are not those of its manifest
                (raised when the first that differs is reached).
        """
        for field in Preprocessing.model_fields:
            own, wanted = getattr(self.preprocessing, field), getattr(preprocessing, field)
            if own != wanted:
                images = "rendered" if self.is_bundled else "IMAGES"
                fitting = f"--input-size {preprocessing.height}x{preprocessing.width}"
                raise DataError(
                    f"{self.name} was made for an input of {field} {own}, the model's is {wanted}",
                    f"make one that fits with: cloformer-deploy calibrate {images} {fitting} --output FILE",
                )
        return self._held_against_manifest(size)

    def _held_against_manifest(self, size: int) -> Iterator[Batch]:
        found = PixelDigests()
        for pixels in self.read(size):
            for image in pixels:
                place = len(found.images)
                if (found.add(image),) != self.image_digests[place : place + 1]:
                    raise self._differs(f"image {place}")
            yield Batch(pixels, None)
        if found.sha256 != self.sha256:
            raise self._differs("the sha256 of all pixels")

    def _differs(self, what: str) -> DataError:
        hint = (
            "install the Pillow of constraints.txt, or give a set of your own with --calibration"
            if self.is_bundled
            else MAKE_AGAIN
        )
        return DataError(f"{self.name}: {what} is not as its manifest says", hint)


def open_calibration(path: Path | None) -> CalibrationSet:
    """Open the set in a file that `calibrate` wrote, or without a path the one that ships. No pixels are read yet.

    Raises:
        DataError: no such file, not readable, not a calibration set, or damaged.
    """
    if path is None:
        return default_calibration()
    manifest, _ = read_header(path)
    return CalibrationSet(str(path), manifest, False, partial(read_pixels, path))


@cache
def default_calibration() -> CalibrationSet:
    """The set that ships in `calibration/`, for the bundled weights of the rendered task; rendered as it is read."""
    content = (shipped_folder("calibration") / "rendered.json").read_bytes()
    manifest = CalibrationManifest.model_validate_json(content)
    images = rendered_calibration(manifest.n, manifest.seed)

    def read(size: int) -> Iterator[NDArray[np.uint8]]:
        return (batch.pixels for batch in images.batches(manifest.preprocessing, size))

    return CalibrationSet(manifest.source, manifest, True, read)


def rendered_calibration(count: int, seed: int) -> RenderedImages:
    """ImageSet of the rendered task's calibration split: `count` from index `seed * count` on.

    Neighbouring images are of different classes, so that no class has two images more than another.
    """
    return RenderedImages("calibration", range(seed * count, (seed + 1) * count))
