"""All steps of the `blame` command: locate a file in its bundle, rank its layers on images, propose a fix."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.blame.blame import Blame, blame
from cloformer_deploy.blame.fix import Fix, propose
from cloformer_deploy.blame.reexport import reexport
from cloformer_deploy.bundle import MANIFEST_NAME, Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import Dataset
from cloformer_deploy.errors import BundleError, RequestError
from cloformer_deploy.exporting.float_layers import ExcludedLayers
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.packages import require
from cloformer_deploy.tasks import task_of

DEFAULT_IMAGES = 32
"""Default number of images; with fewer, one image may contribute half of the noise."""
PLOT_SUFFIXES = (".svg", ".png")


@dataclass(frozen=True)
class Investigation:
    """The result of `blame`, and the proposed fix.

    Attributes:
        images: name of the data set.
        blame: the ranked layers.
        fix: the proposed fix.
        weights_sha256: of the weights that the bundle was made of.
    """

    images: str
    blame: Blame
    fix: Fix
    weights_sha256: str

    @property
    def exclusions(self) -> ExcludedLayers | None:
        """The exclusions that `fix` proposes, for the file that `export` takes; None where it proposes none."""
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
    """Return the bundle that holds an artifact's file, and its entry in the manifest.

    Raises:
        BundleError: it is no file, or no artifact of a bundle.
    """
    if not path.exists():
        raise BundleError(f"{path} does not exist", "give an exported file inside its bundle")
    whole = path.resolve()
    if path.is_dir() and (path / MANIFEST_NAME).exists():
        names = ", ".join(item.path for item in Bundle.open(path).manifest.artifacts) or "none"
        raise BundleError(f"{path} is a bundle", f"give one of its artifacts: {names}")
    try:
        bundle = Bundle.open(whole.parent)
    except BundleError as error:
        hint = "blame takes a file inside its bundle, because it is compared with the bundle's weights"
        raise BundleError(f"{path} is in no bundle: {error.message}", hint) from error
    for artifact in bundle.manifest.artifacts:
        if artifact.path == whole.name:
            return bundle, artifact
    names = ", ".join(item.path for item in bundle.manifest.artifacts) or "none"
    raise BundleError(f"{path} is not listed in its bundle's manifest", f"give one that is: {names}")


def check_outputs(plot: Path | None, exclusions: Path | None) -> None:
    """Check, before minutes of work, that files can be written where they were asked for.

    Raises:
        RequestError: they cannot.
        MissingPartError: the package that draws plots is not installed.
    """
    if plot is not None:
        if plot.suffix not in PLOT_SUFFIXES:
            raise RequestError(f"--plot {plot} is neither SVG nor PNG", "end its name in .svg or .png")
        require("matplotlib", extra="report")
    for option, path in (("--plot", plot), ("--write-exclusions", exclusions)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise RequestError(f"{option} {path} cannot be written there", "name a file in a folder that exists")


def investigate(
    path: Path, data: Path | None, max_images: int | None, calibration: Path | None, progress: Progress
) -> Investigation:
    """Rank the layers of one artifact by the error that each adds, and propose a fix.

    Args:
        path: its file.
        data: images in the task's form; None takes the task's bundled images.
        max_images: at most so many; None is `DEFAULT_IMAGES`.
        calibration: the file it was calibrated on; None is the set that ships.
        progress: receives each step.

    Raises:
        BundleError, RequestError, MissingPartError, ToolError: see `locate`, `blame` and `propose`.
    """
    bundle, artifact = locate(path)
    BACKENDS[artifact.format].describe(bundle.path(artifact))  # before minutes of work: a file that cannot be used
    manifest = bundle.manifest
    task = task_of(manifest)
    images = task.open_data(data, manifest.num_classes, manifest.labels).limited(max_images or DEFAULT_IMAGES)
    progress.step("Reading images")
    pixels = _pixels(images, bundle)
    with tempfile.TemporaryDirectory(prefix="cloformer-deploy-") as folder:
        made = reexport(bundle, artifact, Path(folder), calibration, progress)
        found = blame(bundle, artifact, pixels, progress, reexported=made)
        fix = propose(found, made, pixels, Path(folder), progress)
    return Investigation(images.name, found, fix, manifest.weights.sha256)


def _pixels(images: Dataset, bundle: Bundle) -> NDArray[np.uint8]:
    parts = [batch.pixels for batch in images.batches(bundle.manifest.preprocessing, DEFAULT_IMAGES)]
    return np.concatenate(parts)
