"""The outputs of files that end in suppression (see `detections`), in the form that every format shares."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cloformer_deploy.backends.base import DETECTIONS
from cloformer_deploy.tasks.base import Outputs
from cloformer_deploy.tasks.detection import BOXES, SCORES

if TYPE_CHECKING:
    from numpy.typing import NDArray

APP_OUTPUTS = ("detection_boxes", "detection_classes", "detection_scores", "detection_count")
"""Names of the operator's outputs."""
CELLS = ("encoded_boxes", "scores")
"""Names of the operator's inputs: boxes and scores of all cells. They are no outputs of the file."""


def in_common_form(found: Mapping[str, "NDArray[Any]"]) -> Outputs:
    """Return the outputs of a file and what it gives to its operator as every format has them.

    Args:
        found: has `CELLS` and `APP_OUTPUTS`.

    Returns:
        The boxes and scores of all cells, and the kept objects as `DETECTIONS`.
    """
    import numpy as np

    encoded = found[CELLS[0]]
    half = np.exp(encoded[..., 2:]) / 2
    low, high = encoded[..., :2] - half, encoded[..., :2] + half
    boxes, classes, scores, count = (found[name] for name in APP_OUTPUTS)
    kept = slice(int(count[0]))
    made: dict[str, NDArray[Any]] = {
        BOXES.name: np.concatenate([low[..., ::-1], high[..., ::-1]], -1),
        SCORES.name: found[CELLS[1]],
    }
    made.update(zip(DETECTIONS, (boxes[0, kept][:, [1, 0, 3, 2]], scores[0, kept], classes[0, kept]), strict=True))
    return made
