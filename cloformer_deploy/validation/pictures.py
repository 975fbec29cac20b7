"""Which pictures a bundle is judged on: those of a folder, or rendered ones; none that ranges were measured on."""

from collections.abc import Iterator
from pathlib import Path

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.data import KnownPictures, RenderedPictures, open_folder, picture_digest
from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.errors import BundleError
from cloformer_deploy.manifest import Manifest
from cloformer_deploy.progress import Progress
from cloformer_deploy.validation.cache import Cache, key
from cloformer_deploy.validation.overlap import refuse_shared
from cloformer_deploy.validation.reuse import Subject, results

LABELLED_COUNT = 1000
UNLABELLED_COUNT = 16
"""Rendered pictures that are looked at without a folder: accuracy takes many, numerical distance a few."""


def opened(
    bundle: Bundle, data: Path | None, limit: int | None, progress: Progress, cache: Cache | None = None
) -> KnownPictures:
    """The pictures of a folder, or rendered ones without one, for a bundle that is checked first.

    Rendered pictures have labels if the model's classes are those of the rendered task.

    Raises:
        BundleError: the bundle is not as its manifest says, or lists no artefacts.
        DataError: the pictures cannot be used, or some are in the calibration set of an artefact.
    """
    progress.step("Checking the bundle")
    bundle.verify()
    manifest = bundle.manifest
    if not manifest.artifacts:
        raise BundleError(f"{bundle.root} lists no artefacts", "export into it")
    if data is None:  # rendered ones are of another split than those that ranges are measured on
        labelled = manifest.labels == CLASSES
        count = LABELLED_COUNT if labelled else UNLABELLED_COUNT
        return RenderedPictures("test", range(limit or count), labelled)
    pictures = open_folder(data, manifest.num_classes, manifest.labels).limited(limit)
    for warning in pictures.warnings:
        progress.warn(warning)
    _refuse_calibration(manifest, pictures, progress, cache)
    return pictures


def _refuse_calibration(manifest: Manifest, pictures: KnownPictures, progress: Progress, cache: Cache | None) -> None:
    """Look at all pictures before anything is run: the answer would be of no use."""
    calibrations = {item.sha256[:12]: item.pictures for item in manifest.calibrations}
    if not calibrations:
        return
    progress.step("Looking for pictures of the calibration set")

    subject = Subject(key("digest"), lambda pixels: [picture_digest(picture).encode() for picture in pixels])

    def digests() -> Iterator[str]:
        for place, (found,) in results(pictures, manifest.input, [subject], cache):
            yield from (digest.decode() for digest in found)
            progress.advance(place.stop, len(pictures))

    refuse_shared(digests(), calibrations, pictures.name)
