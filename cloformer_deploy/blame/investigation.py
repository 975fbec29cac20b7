"""The whole of the `blame` command: a file of a bundle, the images, what is wrong and what to do."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.blame.blame import Blame, blame
from cloformer_deploy.blame.fix import Fix, propose
from cloformer_deploy.blame.reexport import reexport
from cloformer_deploy.bundle.bundle import MANIFEST_NAME, Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import ImageSet, RenderedImages, open_folder
from cloformer_deploy.errors import BundleError, RequestError
from cloformer_deploy.export.float_layers import ExcludedLayers
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.packages import require

DEFAULT_IMAGES = 32
"""Of fewer, one image's noise may be half of all."""
PLOT_SUFFIXES = (".svg", ".png")


@dataclass(frozen=True)
class Investigation:
    """What was found, on which images, and what to do about it."""

    images: str
    blame: Blame
    fix: Fix
    weights_sha256: str

    @property
    def recipe(self) -> ExcludedLayers | None:
        """By which export leaves the layers float that `fix` names; None where it names none."""
        if self.fix.advice != "exclude_layers":
            return None
        return ExcludedLayers(
            weights_sha256=self.weights_sha256,
            format=self.blame.format,
            target=self.blame.target,
            precision=self.blame.precision,
            excluded_layers=self.fix.excluded_layers,
        )


def locate(path: Path) -> tuple[Bundle, Artifact]:
    """The bundle that an artifact's file lies in, and its entry there.

    Raises:
        BundleError: it is no file, or no artifact of a bundle.
    """
    if not path.exists():
        raise BundleError(f"{path} does not exist", "give an exported file inside its bundle")
    whole = path.resolve()
    if path.is_dir() and (path / MANIFEST_NAME).exists() and path.suffix != ".mlpackage":
        names = ", ".join(item.path for item in Bundle.open(path).manifest.artifacts) or "none"
        raise BundleError(f"{path} is a bundle", f"give one of its artifacts: {names}")
    try:
        bundle = Bundle.open(whole.parent)
    except BundleError as error:
        hint = "blame takes a file inside its bundle, whose weights it is held against"
        raise BundleError(f"{path} is in no bundle: {error.message}", hint) from error
    for artifact in bundle.manifest.artifacts:
        if artifact.path == whole.name:
            return bundle, artifact
    names = ", ".join(item.path for item in bundle.manifest.artifacts) or "none"
    raise BundleError(f"{path} is not listed in its bundle's manifest", f"give one that is: {names}")


def check_outputs(plot: Path | None, fix: Path | None) -> None:
    """Make sure, before minutes of work, that files can be written where they were asked for.

    Raises:
        RequestError: they cannot.
        MissingPartError: what draws plots is not installed.
    """
    if plot is not None:
        if plot.suffix not in PLOT_SUFFIXES:
            raise RequestError(f"--plot {plot} is neither SVG nor PNG", "end its name in .svg or .png")
        require("matplotlib", extra="report")
    for option, path in (("--plot", plot), ("--fix", fix)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise RequestError(f"{option} {path} cannot be written there", "name a file in a folder that exists")


def investigate(
    path: Path, data: Path | None, limit: int | None, calibration: Path | None, progress: Progress
) -> Investigation:
    """Look into one artifact, and search for what to do about it.

    Args:
        path: its file.
        data: a folder of images; None are rendered ones.
        limit: how many images at most; None is `DEFAULT_IMAGES`.
        calibration: the file it was calibrated on; None is the set that ships.
        progress: told what is going on.

    Raises:
        BundleError, RequestError, MissingPartError, ToolError: see `locate`, `blame` and `propose`.
    """
    bundle, artifact = locate(path)
    manifest = bundle.manifest
    count = limit or DEFAULT_IMAGES
    images: ImageSet
    if data is None:
        images = RenderedImages("test", range(count), labeled=False)
    else:
        images = open_folder(data, manifest.num_classes, manifest.labels).limited(count)
    progress.step("Reading images")
    pixels = _pixels(images, bundle)
    with tempfile.TemporaryDirectory(prefix="cloformer-deploy-") as folder:
        fresh = reexport(bundle, artifact, Path(folder), calibration, progress)
        found = blame(bundle, artifact, pixels, progress, fresh=fresh)
        fix = propose(found, fresh, pixels, Path(folder), progress)
    return Investigation(images.name, found, fix, manifest.weights.sha256)


def _pixels(images: ImageSet, bundle: Bundle) -> NDArray[np.uint8]:
    parts = [batch.pixels for batch in images.batches(bundle.manifest.input, DEFAULT_IMAGES)]
    return np.concatenate(parts)
