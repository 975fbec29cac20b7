"""Which images a bundle is judged on: those of a folder, or rendered ones; none that ranges were measured on."""

from collections.abc import Iterator
from pathlib import Path

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Manifest
from cloformer_deploy.data import Dataset, RenderedImages, image_digest, open_folder
from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.errors import BundleError
from cloformer_deploy.progress import Progress
from cloformer_deploy.validation.cache import Cache, key
from cloformer_deploy.validation.cached_inference import Subject, results
from cloformer_deploy.validation.leakage import check_no_leakage

LABELED_COUNT = 1000
UNLABELED_COUNT = 16
"""Rendered images that are looked at without a folder: accuracy takes many, numerical distance a few."""


def opened(
    bundle: Bundle, data: Path | None, limit: int | None, progress: Progress, cache: Cache | None = None
) -> Dataset:
    """The images of a folder, or rendered ones without one, for a bundle that is checked first.

    Rendered images have labels if the model's classes are those of the rendered task.

    Raises:
        BundleError: the bundle is not as its manifest says, or lists no artifacts.
        DataError: the images cannot be used, or some are in the calibration set of an artifact.
    """
    progress.step("Checking the bundle")
    bundle.verify()
    manifest = bundle.manifest
    if not manifest.artifacts:
        raise BundleError(f"{bundle.root} lists no artifacts", "export into it")
    if data is None:  # rendered ones are of another split than those that ranges are measured on
        labeled = manifest.labels == CLASSES
        count = LABELED_COUNT if labeled else UNLABELED_COUNT
        return RenderedImages("test", range(limit or count), labeled)
    images = open_folder(data, manifest.num_classes, manifest.labels).limited(limit)
    for warning in images.warnings:
        progress.warn(warning)
    _check_calibration(manifest, images, progress, cache)
    return images


def _check_calibration(manifest: Manifest, images: Dataset, progress: Progress, cache: Cache | None) -> None:
    """Look at all images before anything is run: the answer would be of no use."""
    calibrations = {item.sha256[:12]: item.images for item in manifest.calibrations}
    if not calibrations:
        return
    progress.step("Looking for images of the calibration set")

    subject = Subject(key("digest"), lambda pixels: [image_digest(image).encode() for image in pixels])

    def digests() -> Iterator[str]:
        for place, (found,) in results(images, manifest.input, [subject], cache):
            yield from (digest.decode() for digest in found)
            progress.advance(place.stop, len(images))

    check_no_leakage(digests(), calibrations, images.name)
