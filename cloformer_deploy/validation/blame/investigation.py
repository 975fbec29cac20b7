"""The whole of the `blame` command: a file of a bundle, the pictures, what is wrong and what to do."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.bundle import MANIFEST_NAME, Bundle
from cloformer_deploy.data import Pictures, RenderedPictures, open_folder
from cloformer_deploy.errors import BundleError, RequestError
from cloformer_deploy.manifest import Artifact
from cloformer_deploy.packages import require
from cloformer_deploy.progress import Progress
from cloformer_deploy.recipe_file import RecipeFile
from cloformer_deploy.validation.blame.blaming import Blame, blame
from cloformer_deploy.validation.blame.fix import Fix, propose
from cloformer_deploy.validation.blame.fresh import make_fresh

DEFAULT_PICTURES = 32
"""Of fewer, one picture's noise may be half of all."""
PICTURE_SUFFIXES = (".svg", ".png")


@dataclass(frozen=True)
class Investigation:
    """What was found, on which pictures, and what to do about it."""

    pictures: str
    blame: Blame
    fix: Fix
    weights_sha256: str

    @property
    def recipe(self) -> RecipeFile | None:
        """By which export leaves the layers float that `fix` names; None where it names none."""
        if self.fix.advice != "leave_float":
            return None
        return RecipeFile(
            weights_sha256=self.weights_sha256,
            format=self.blame.format,
            target=self.blame.target,
            precision=self.blame.precision,
            left_float=self.fix.left_float,
        )


def locate(path: Path) -> tuple[Bundle, Artifact]:
    """The bundle that an artefact's file lies in, and its entry there.

    Raises:
        BundleError: it is no file, or no artefact of a bundle.
    """
    if not path.exists():
        raise BundleError(f"{path} does not exist", "give an exported file inside its bundle")
    whole = path.resolve()
    if path.is_dir() and (path / MANIFEST_NAME).exists() and path.suffix != ".mlpackage":
        names = ", ".join(item.path for item in Bundle.open(path).manifest.artifacts) or "none"
        raise BundleError(f"{path} is a bundle", f"give one of its artefacts: {names}")
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


def refuse_outputs(picture: Path | None, fix: Path | None) -> None:
    """Make sure, before minutes of work, that files can be written where they were asked for.

    Raises:
        RequestError: they cannot.
        MissingPartError: what draws pictures is not installed.
    """
    if picture is not None:
        if picture.suffix not in PICTURE_SUFFIXES:
            raise RequestError(f"--picture {picture} is neither SVG nor PNG", "end its name in .svg or .png")
        require("matplotlib", extra="report")
    for option, path in (("--picture", picture), ("--fix", fix)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise RequestError(f"{option} {path} cannot be written there", "name a file in a folder that exists")


def investigate(
    path: Path, data: Path | None, limit: int | None, calibration: Path | None, progress: Progress
) -> Investigation:
    """Look into one artefact, and search for what to do about it.

    Args:
        path: its file.
        data: a folder of pictures; None are rendered ones.
        limit: how many pictures at most; None is `DEFAULT_PICTURES`.
        calibration: the file it was calibrated on; None is the set that ships.
        progress: told what is going on.

    Raises:
        BundleError, RequestError, MissingPartError, ToolError: see `locate`, `blame` and `propose`.
    """
    bundle, artifact = locate(path)
    manifest = bundle.manifest
    count = limit or DEFAULT_PICTURES
    pictures: Pictures
    if data is None:
        pictures = RenderedPictures("test", range(count), labelled=False)
    else:
        pictures = open_folder(data, manifest.num_classes, manifest.labels).limited(count)
    progress.step("Reading pictures")
    pixels = _pixels(pictures, bundle)
    with tempfile.TemporaryDirectory(prefix="cloformer-deploy-") as folder:
        fresh = make_fresh(bundle, artifact, Path(folder), calibration, progress)
        found = blame(bundle, artifact, pixels, progress, fresh=fresh)
        fix = propose(found, fresh, pixels, Path(folder), progress)
    return Investigation(pictures.name, found, fix, manifest.weights.sha256)


def _pixels(pictures: Pictures, bundle: Bundle) -> NDArray[np.uint8]:
    parts = [batch.pixels for batch in pictures.batches(bundle.manifest.input, DEFAULT_PICTURES)]
    return np.concatenate(parts)
