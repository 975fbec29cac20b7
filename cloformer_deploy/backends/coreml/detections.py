"""Detectors with an image input: a pipeline that ends in non-maximum suppression, as Vision asks for.

Vision returns recognized objects (`VNRecognizedObjectObservation`) only for such pipelines. Suppression is between
boxes whose class of the highest score is the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, cat, nn

from cloformer_deploy.backends.base import DETECTIONS
from cloformer_deploy.tasks.base import Outputs
from cloformer_deploy.tasks.boxes import LEAST_SCORE, MOST_DETECTIONS, MOST_OVERLAP
from cloformer_deploy.tasks.detection import BOXES, SCORES

CONFIDENCE, COORDINATES = VISION = ("confidence", "coordinates")
"""Outputs that Vision reads: (n, classes), and (n, 4): center x and y, width, height, 0 to 1 of the image."""
CELLS = ("cell_confidence", "cell_coordinates")
"""The same of all cells, between the program and the suppression."""
THRESHOLDS = ("iouThreshold", "confidenceThreshold")
"""Optional inputs of the pipeline, by the names that apps know from other detectors."""


class ForVision(nn.Module):
    """A detector whose outputs have Vision's form: `CELLS`, for one image.

    Args:
        model: returns boxes (1, N, 4) and scores (1, N, classes), see `networks.heads.detector.Detector`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores (N, classes), and the boxes by their centers, widths and heights (N, 4)."""
        boxes, scores = self.model(image)
        low, high = boxes[..., :2], boxes[..., 2:]
        return scores[0], cat([(low + high) * 0.5, high - low], -1)[0]


def with_suppression(program: Any, labels: Sequence[str] | None) -> Any:
    """Return a pipeline `MLModel` of a program and of suppression.

    Args:
        program: an `MLModel` whose outputs are `CELLS`.
        labels: names of the classes; without, apps get their numbers.
    """
    import coremltools as ct

    described = {item.name: item for item in program.get_spec().description.output}
    classes = int(described[CELLS[0]].type.multiArrayType.shape[1])
    made = ct.proto.Model_pb2.Model()
    made.specificationVersion = program.get_spec().specificationVersion
    for read, written, width in zip(CELLS, VISION, (classes, 4), strict=True):
        made.description.input.add().CopyFrom(described[read])
        output = made.description.output.add()
        output.CopyFrom(described[read])
        output.name = written
        kind = output.type.multiArrayType
        del kind.shape[:]
        for least, most in ((0, -1), (width, width)):  # any number of boxes
            kind.shapeRange.sizeRanges.add(lowerBound=least, upperBound=most)
    for name in THRESHOLDS:
        threshold = made.description.input.add(name=name)
        threshold.type.doubleType.SetInParent()
        threshold.type.isOptional = True
    stored = made.nonMaximumSuppression
    stored.confidenceInputFeatureName, stored.coordinatesInputFeatureName = CELLS
    stored.confidenceOutputFeatureName, stored.coordinatesOutputFeatureName = VISION
    stored.iouThresholdInputFeatureName, stored.confidenceThresholdInputFeatureName = THRESHOLDS
    stored.iouThreshold, stored.confidenceThreshold = MOST_OVERLAP, LEAST_SCORE
    stored.pickTop.perClass = True
    if labels is not None:
        stored.stringClassLabels.vector.extend(labels)
    else:
        stored.int64ClassLabels.vector.extend(range(classes))
    units = program.compute_unit
    return ct.utils.make_pipeline(program, ct.models.MLModel(made, compute_units=units), compute_units=units)


def describe(pipeline: Any) -> None:
    """Say in a pipeline what its outputs and optional inputs are."""
    pipeline.output_description[CONFIDENCE] = "score of each class for each object, 0 to 1"
    pipeline.output_description[COORDINATES] = "box of each object: center x and y, width, height, 0 to 1 of the image"
    pipeline.input_description[THRESHOLDS[0]] = f"overlap above which a box is suppressed; {MOST_OVERLAP:g} if left out"
    pipeline.input_description[THRESHOLDS[1]] = f"score below which a box is left out; {LEAST_SCORE:g} if left out"


def in_common_form(found: Mapping[str, NDArray[Any]]) -> Outputs:
    """Return the outputs of a pipeline and of its program as every format has them.

    Args:
        found: has `CELLS` and `VISION`.

    Returns:
        The boxes and scores of all cells, and the kept objects of the highest scores as `DETECTIONS`, each of the class
        of its highest score.
    """
    confidence, coordinates = (np.asarray(found[name], np.float32)[:MOST_DETECTIONS] for name in VISION)
    scores, centers = (np.asarray(found[name], np.float32) for name in CELLS)
    made: dict[str, NDArray[np.float32]] = {BOXES.name: _corners(centers)[None], SCORES.name: scores[None]}
    kinds = confidence.argmax(axis=1) if confidence.size else np.zeros(len(confidence), np.int64)
    best = confidence.max(axis=1, initial=0)
    made.update(zip(DETECTIONS, (_corners(coordinates), best, kinds.astype(np.float32)), strict=True))
    return made


def _corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    center, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.hstack([center - half, center + half])
