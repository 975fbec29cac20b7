"""Compare the detections of files that end in suppression with suppression of PyTorch's outputs.

    python benchmarks/suppression.py [--weights NAME] [--count 200]
    python benchmarks/suppression.py --bundle FOLDER --data DATA      # fp32 files that are exported already

A detection is the same if class, score and edges are: within 1e-4. Those whose score, or whose overlap with a better
one, is within float error of a limit may differ.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks import limits
from cloformer_deploy.backends.base import DETECTIONS, INPUT_NAME, Suppression
from cloformer_deploy.backends.registry import BACKENDS, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import Dataset
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent
from cloformer_deploy.tasks import TASKS, Outputs
from cloformer_deploy.tasks.boxes import Detections, detections
from cloformer_deploy.validation.evaluation import reference_model
from cloformer_deploy.validation.images import opened
from cloformer_deploy.validation.inference import reference_outputs

TOLERANCE = 1e-4


def expected(outputs: Outputs, suppression: Suppression) -> Detections:
    """Return the detections of one image of PyTorch's outputs, by the rules of a format's suppression."""
    boxes, scores = outputs["boxes"][0], outputs["scores"][0]
    if suppression.best_class:
        scores = scores * (scores == scores.max(axis=1, keepdims=True))
    return detections(boxes, scores)


def same(first: Detections, second: Detections) -> int:
    """Return how many detections of one set are in the other, each counted once."""
    differences = np.maximum(
        np.abs(first.boxes[:, None] - second.boxes[None]).max(axis=2, initial=0),
        np.abs(first.scores[:, None] - second.scores[None]),
    )
    close = (differences < TOLERANCE) & (first.classes[:, None] == second.classes[None])
    return int(min(close.any(axis=1).sum(), close.any(axis=0).sum()))


def compare(bundle: Bundle, artifact: Artifact, images: Dataset) -> tuple[int, int, int]:
    """Return the number of images with the same detections, of the same detections, and of all of either."""
    model, preprocessing = reference_model(bundle), bundle.manifest.preprocessing
    suppression = BACKENDS[artifact.format].suppression
    if suppression is None or artifact.input.kind != "image":
        raise typer.BadParameter(f"{artifact.path} does not end in suppression")
    session = runtime_for(artifact.format).open(bundle.path(artifact))
    whole = shared = total = 0
    for batch in images.batches(preprocessing, 1):
        normalized = preprocessing.normalize(batch.pixels)
        wanted = expected(reference_outputs(model, normalized, TASKS["detection"].outputs), suppression)
        boxes, scores, classes = (session.run({INPUT_NAME: batch.pixels})[name] for name in DETECTIONS)
        found = Detections(boxes, scores, classes.astype(np.int64))
        both, most = same(wanted, found), max(len(wanted), len(found))
        whole, shared, total = whole + (both == most), shared + both, total + most
    return whole, shared, total


def main(
    weights: Annotated[str, typer.Option(help="Weights of a detector, to export.")] = "xxs-scenes-detect",
    bundle: Annotated[Path | None, typer.Option(help="Compare the fp32 files of this bundle instead.")] = None,
    data: Annotated[Path | None, typer.Option(help="Images; rendered scenes by default.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 200,
) -> None:
    """Compare each fp32 file, and print a line for each. The exit code is 1 if fewer than 99.9 % are the same."""
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        if bundle is None:
            bundle = Path(folder, "bundle")
            export(ExportRequest([*BACKENDS], weights=weights, input_kind="image", output=bundle), Silent())
        found = Bundle.open(bundle)
        images = opened(found, data, count, Silent())
        for artifact in found.manifest.artifacts:
            if artifact.precision == "fp32":
                whole, shared, total = compare(found, artifact, images)
                print(f"{artifact.path}: the same on {whole} of {len(images)} images; {shared} of {total} detections")
                shares.append(shared / total if total else 0.0)
    limits.enforce(limits.suppression, {"shares": shares})


if __name__ == "__main__":
    typer.run(main)
