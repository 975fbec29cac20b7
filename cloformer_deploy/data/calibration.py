"""Calibration sets: images that activation ranges are measured on, from a file or rendered for the bundled weights."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data.batches import Batch
from cloformer_deploy.data.calibration_file import MAKE_AGAIN, read_header, read_pixels
from cloformer_deploy.data.calibration_manifest import CalibrationManifest, PixelDigests
from cloformer_deploy.data.preprocessing import Preprocessing
from cloformer_deploy.data.rendered import CLASSES, SCENE_CLASSES, RenderedImages, RenderedScenes
from cloformer_deploy.errors import DataError
from cloformer_deploy.networks.base import PUBLISHED_COLOR
from cloformer_deploy.system.packages import shipped_folder

BUNDLED: dict[str, Mapping[str, tuple[str, ...]]] = {
    "rendered": {"classification": CLASSES},
    "scenes": {"segmentation": SCENE_CLASSES, "detection": CLASSES},
}
"""Names of the bundled sets, each with the tasks and labels of the weights that it fits."""
RELIABLE_COUNT = 32
"""Images; activation ranges from fewer depend strongly on the choice of images."""


@dataclass(frozen=True)
class CalibrationSet:
    """An unlabeled image set, at a model's input size, whose pixels are checked against their manifest when read.

    Attributes:
        name: description for messages: the path of its file, or the source of the bundled set.
        manifest: the digests of its pixels, and how it was made.
        bundled: its key in `BUNDLED`; None for a set of the user's.
        read: yields the pixels in order, RGB uint8 (B, 3, H, W), a given number of images at a time.
    """

    name: str
    manifest: CalibrationManifest
    bundled: str | None
    read: Callable[[int], Iterator[NDArray[np.uint8]]]

    @property
    def sha256(self) -> str:
        """SHA-256 digest of all pixels in order, RGB uint8 (n, 3, height, width)."""
        return self.manifest.sha256

    @property
    def n(self) -> int:
        """Number of images."""
        return self.manifest.n

    @property
    def seed(self) -> int:
        """Seed of the random choice of the images."""
        return self.manifest.seed

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the models that the set can calibrate."""
        return self.manifest.preprocessing

    @property
    def image_digests(self) -> tuple[str, ...]:
        """`image_digest` of each image, in order."""
        return self.manifest.images

    @property
    def warnings(self) -> tuple[str, ...]:
        """A warning if the set has fewer than `RELIABLE_COUNT` images."""
        if self.n >= RELIABLE_COUNT:
            return ()
        return (f"ranges from {self.n} images are unreliable: calibrate with {RELIABLE_COUNT} or more",)

    def __len__(self) -> int:
        return self.n

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """Yield all images in order, without labels; see `ImageSet.batches`.

        Raises:
            DataError: the set was made for another preprocessing; or an image differs from its digest in the manifest
                (raised when it is reached).
        """
        for field in Preprocessing.model_fields:
            own, wanted = getattr(self.preprocessing, field), getattr(preprocessing, field)
            if own != wanted:
                images = self.manifest.source.split()[0] if self.bundled else "IMAGES"
                options = f"--input-size {preprocessing.height}x{preprocessing.width}"
                if preprocessing.color != PUBLISHED_COLOR:
                    options += f" --color {preprocessing.color}"
                if preprocessing.resize.cover == (preprocessing.height, preprocessing.width):
                    options += " --whole"
                raise DataError(
                    f"{self.name} was made for models with input {field} {own}, but this model has {wanted}",
                    f"make a fitting set with: cloformer-deploy calibrate {images} {options} --output FILE",
                )
        return self._checked(size)

    def _checked(self, size: int) -> Iterator[Batch]:
        found = PixelDigests()
        for pixels in self.read(size):
            for image in pixels:
                index = len(found.images)
                if (found.add(image),) != self.image_digests[index : index + 1]:
                    raise self._mismatch(f"image {index} does not match its")
            yield Batch(pixels)
        if found.sha256 != self.sha256:
            raise self._mismatch("the pixels do not match their")

    def _mismatch(self, problem: str) -> DataError:
        hint = (
            "install the Pillow version of constraints.txt, or use a calibration set of your own"
            if self.bundled
            else MAKE_AGAIN
        )
        return DataError(f"{self.name}: {problem} digest in the manifest", hint)


def open_calibration(path: Path | None, bundled: str | None = None) -> CalibrationSet:
    """Open a calibration set; its pixels are not read yet.

    Args:
        path: a file that `calibrate` wrote; None opens a bundled set.
        bundled: key of that set in `BUNDLED`.

    Raises:
        DataError: the file does not exist, is not readable, is not a calibration set, or is damaged.
    """
    if path is None:
        return bundled_calibration(str(bundled))
    manifest, _ = read_header(path)
    return CalibrationSet(str(path), manifest, None, partial(read_pixels, path))


def fitting_bundled(task: str, *labels: tuple[str, ...] | None) -> str | None:
    """Return the name of the bundled set for weights of a task that have one of these labels; None without any.

    Weights whose head is left out (task `features`) have the labels of the task that they were trained for.
    """
    for name, known in BUNDLED.items():
        fitting = known.values() if task == "features" else [known[task]] if task in known else []
        if any(each in labels for each in fitting):
            return name
    return None


@cache
def bundled_calibration(name: str) -> CalibrationSet:
    """Return the set of `calibration/NAME.json`, for the bundled weights that are trained on rendered data.

    Only its manifest is distributed: the images are rendered when they are read.
    """
    content = (shipped_folder("calibration") / f"{name}.json").read_bytes()
    manifest = CalibrationManifest.model_validate_json(content)
    images = rendered_calibration(name, manifest.n, manifest.seed)

    def read(size: int) -> Iterator[NDArray[np.uint8]]:
        return (batch.pixels for batch in images.batches(manifest.preprocessing, size))

    return CalibrationSet(manifest.source, manifest, name, read)


def bundled_of(sha256: str) -> CalibrationSet | None:
    """Return the bundled set with a digest; None where there is none."""
    return next((found for found in map(bundled_calibration, BUNDLED) if found.sha256 == sha256), None)


def rendered_calibration(name: str, count: int, seed: int) -> RenderedImages | RenderedScenes:
    """Return `count` images of a rendered data set's calibration split, from index `seed * count` on.

    Every 20 consecutive images have each of the 20 classes once; of scenes, every block of 20 has each class three
    times. So the classes are balanced.
    """
    indices = range(seed * count, (seed + 1) * count)
    return RenderedImages("calibration", indices) if name == "rendered" else RenderedScenes("calibration", indices)
