"""A request for an accuracy limit: its checks, and what the searching processes are given."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cloformer_deploy.data import CalibrationSet, Dataset, image_digest
from cloformer_deploy.errors import RequestError
from cloformer_deploy.exporting.jobs import AccuracyLimit, Source
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization.search import DEFAULT_BUDGET, SMALLEST_BUDGET
from cloformer_deploy.tasks import task_of

if TYPE_CHECKING:
    from hashlib import _Hash

_BATCH = 32


def check_limit(
    max_drop_pp: float | None, data: Path | None, budget: int, workers: str | None, calibrated: bool
) -> None:
    """Check that a limit can be asked for like this.

    Args:
        max_drop_pp: the limit, percentage points; None is no limit.
        data: labeled images.
        budget: evaluations that the search for one file may use.
        workers: run the images.
        calibrated: whether any requested artifact has integer activations.

    Raises:
        RequestError: it cannot.
    """
    if max_drop_pp is None:
        if data is not None:
            raise RequestError(f"--data {data} is for an accuracy limit, and none was given", "add --max-drop PP")
        if workers is not None:
            hint = "add --max-drop PP --data PATH, or leave --workers out"
            raise RequestError(f"--workers {workers} is for an accuracy limit, and none was given", hint)
        return
    if not math.isfinite(max_drop_pp) or not 0 <= max_drop_pp <= 100:
        raise RequestError(f"--max-drop {max_drop_pp} must be 0 to 100", "give percentage points, such as 0.3")
    if data is None:
        raise RequestError(
            "--max-drop needs labeled images", "add --data PATH, with labels: see docs/accuracy-control.md"
        )
    if budget < SMALLEST_BUDGET:
        raise RequestError(
            f"--budget {budget} is too small: PyTorch takes one evaluation, a file another",
            f"give {SMALLEST_BUDGET} or more; {DEFAULT_BUDGET} lets every search end",
        )
    if not calibrated:
        raise RequestError(
            "--max-drop is for precisions with integer activations, and none was asked for",
            "add --precision int8, or leave --max-drop out",
        )


def accuracy_limit(
    max_drop_pp: float, data: Path, budget: int, source: Source, calibration: CalibrationSet, progress: Progress
) -> AccuracyLimit:
    """Read all images once, check that none leaks from the calibration set, and return the limit.

    Raises:
        DataError: an image cannot be used, or is one of the calibration set's.
        RequestError: the images have no labels.
    """
    # Imported here: it takes torch, which a rejected request need not wait for.
    from cloformer_deploy.validation import check_no_leakage

    task = task_of(source)
    if task.metric is None:
        raise RequestError(f"--max-drop needs a metric, and {task.name} has none here", f"give {task.labels_hint}")
    images = task.open_data(data, source.num_classes, source.labels)
    if not images.has_targets:
        raise RequestError(f"{data} has no labels: there is no accuracy to measure", f"give {task.labels_hint}")
    for warning in images.warnings:
        progress.warn(warning)
    progress.step("Looking for images of the calibration set")
    seen = hashlib.sha256()
    digests = _digests(images, source, seen, progress)
    check_no_leakage(digests, {calibration.name: calibration.image_digests}, str(data))
    return AccuracyLimit(max_drop_pp=max_drop_pp, budget=budget, data=data, data_sha256=seen.hexdigest())


def _digests(images: Dataset, source: Source, seen: "_Hash", progress: Progress) -> Iterator[str]:
    """Yield the digest of each image, and add all pixels and targets to `seen`."""
    done = 0
    for batch in images.batches(source.preprocessing, _BATCH):
        for part in (batch.pixels, batch.labels, *(batch.truths or ())):
            seen.update(b"" if part is None else part.tobytes())
        yield from map(image_digest, batch.pixels)
        done += len(batch.pixels)
        progress.advance(done, len(images))


def state_path(output: Path, artifact: str) -> Path:
    """Return where the search for an artifact keeps its state: beside the bundle, which holds finished files only."""
    root = output.absolute()
    return root.parent / f".{root.name}.{artifact}.search.json"
