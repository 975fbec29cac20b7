"""A request for an accuracy limit: what it needs, and what the processes that hold it are told."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cloformer_deploy.data import CalibrationSet, ImageFolder, Preprocessing, image_digest, open_folder
from cloformer_deploy.errors import RequestError
from cloformer_deploy.export.jobs import AccuracyLimit
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization.search import DEFAULT_BUDGET, SMALLEST_BUDGET

if TYPE_CHECKING:
    from cloformer_deploy.weights.checkpoints import Checkpoint

_BATCH = 32


def check_limit(max_drop_pp: float | None, data: Path | None, budget: int, calibrated: bool) -> None:
    """Make sure that a limit can be asked for like this; `calibrated` says whether any artifact has ranges.

    Raises:
        RequestError: it cannot.
    """
    if max_drop_pp is None:
        if data is not None:
            raise RequestError(f"--data {data} is for an accuracy limit, and none was given", "add --max-drop PP")
        return
    if not math.isfinite(max_drop_pp) or not 0 <= max_drop_pp <= 100:
        raise RequestError(
            f"--max-drop {max_drop_pp} is no limit on a drop", "give percentage points from 0 to 100, such as 0.3"
        )
    if data is None:
        raise RequestError("--max-drop needs labeled images to hold it on", "add --data DIR, one sub-folder a class")
    if budget < SMALLEST_BUDGET:
        raise RequestError(
            f"--budget {budget} is too small: PyTorch's own pass is one evaluation, a file's another",
            f"give {SMALLEST_BUDGET} or more; {DEFAULT_BUDGET} lets every search end",
        )
    if not calibrated:
        raise RequestError(
            "--max-drop is for precisions whose activations become integers, and none was asked for",
            "add --precision int8, or leave --max-drop out",
        )


def accuracy_limit(
    max_drop_pp: float,
    data: Path,
    budget: int,
    checkpoint: "Checkpoint",
    calibration: CalibrationSet,
    preprocessing: Preprocessing,
    progress: Progress,
) -> AccuracyLimit:
    """Look at all images once, and say what the limit is held on.

    Raises:
        DataError: a image cannot be used, or is one of the calibration set's.
        RequestError: they have no labels.
    """
    # Only now: it takes torch, which a refused request need not wait for.
    from cloformer_deploy.validation import check_no_leakage

    images = open_folder(data, checkpoint.num_classes, checkpoint.labels)
    if images.labels is None:
        raise RequestError(
            f"{data} is a flat folder: without labels there is no accuracy to hold", "give one sub-folder a class"
        )
    for warning in images.warnings:
        progress.warn(warning)
    progress.step("Looking for images of the calibration set")
    seen = hashlib.sha256(np.asarray(images.labels, np.int64).tobytes())
    check_no_leakage(
        _digests(images, preprocessing, seen, progress), {calibration.name: calibration.image_digests}, str(data)
    )
    return AccuracyLimit(max_drop_pp=max_drop_pp, budget=budget, data=data, data_sha256=seen.hexdigest())


def _digests(
    images: ImageFolder, preprocessing: Preprocessing, seen: "hashlib._Hash", progress: Progress
) -> Iterator[str]:
    """That of each image, and all of them counted into one."""
    done = 0
    for batch in images.batches(preprocessing, _BATCH):
        seen.update(batch.pixels.tobytes())
        yield from map(image_digest, batch.pixels)
        done += len(batch.pixels)
        progress.advance(done, len(images))


def state_path(output: Path, artifact: str) -> Path:
    """Where the search for an artifact keeps what it has found: beside the bundle, which holds finished files only."""
    root = output.absolute()
    return root.parent / f".{root.name}.{artifact}.search.json"
