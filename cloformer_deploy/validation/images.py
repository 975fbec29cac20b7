"""Open the images that a bundle is judged on: those of a path, or the task's bundled images."""

from collections.abc import Iterator
from pathlib import Path

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Manifest
from cloformer_deploy.data import Dataset
from cloformer_deploy.errors import BundleError
from cloformer_deploy.npu import SIMULATED_IMAGES, Npu
from cloformer_deploy.progress import Progress
from cloformer_deploy.tasks import task_of
from cloformer_deploy.validation.cache import Cache
from cloformer_deploy.validation.cached_inference import results
from cloformer_deploy.validation.digest_work import DigestWork
from cloformer_deploy.validation.leakage import check_no_leakage
from cloformer_deploy.validation.workers.base import Workers


def opened(
    bundle: Bundle,
    data: Path | None,
    max_images: int | None,
    progress: Progress,
    cache: Cache | None = None,
    npu: Npu | None = None,
    workers: Workers | None = None,
) -> Dataset:
    """Check a bundle, and open the images that it is judged on.

    Args:
        bundle: to be judged.
        data: labeled or unlabeled images in the task's form; None takes the task's bundled images.
        max_images: at most so many, evenly over the classes; of bundled images, just so many. None takes all, for an
            NPU's simulator `SIMULATED_IMAGES`.
        progress: receives each step.
        cache: keeps the digests of images.
        npu: what simulates them, or None.
        workers: read the images; None does it in this process.

    Raises:
        BundleError: the bundle is not as its manifest says, or lists no artifacts.
        DataError: the images cannot be used, or some are in the calibration set of an artifact.
    """
    progress.step("Checking the bundle")
    bundle.verify()
    manifest = bundle.manifest
    if not manifest.artifacts:
        raise BundleError(f"{bundle.root} lists no artifacts", "export into it")
    if npu is not None and max_images is None:
        max_images = SIMULATED_IMAGES
    images = task_of(manifest).open_data(data, manifest.num_classes, manifest.labels).limited(max_images)
    for sentence in manifest.assumed:
        progress.warn(f"assumed at the export, as the weights do not say it: {sentence}")
    for warning in images.warnings:
        progress.warn(warning)
    if data is not None:  # the bundled images are of another split than those that calibration takes
        _check_calibration(manifest, images, progress, cache, workers)
    return images


def _check_calibration(
    manifest: Manifest, images: Dataset, progress: Progress, cache: Cache | None, workers: Workers | None
) -> None:
    """Read all images before anything is run: with leaked images the result would be useless."""
    calibrations = {item.sha256[:12]: item.images for item in manifest.calibrations}
    if not calibrations:
        return
    progress.step("Looking for images of the calibration set")

    def digests() -> Iterator[str]:
        for place, (found,) in results(DigestWork(images, manifest.preprocessing), cache, workers):
            yield from (digest.decode() for digest in found)
            progress.advance(place.stop, len(images))

    check_no_leakage(digests(), calibrations, images.name)
