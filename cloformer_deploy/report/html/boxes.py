"""Boxes of detections as pictures."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cloformer_deploy.data.masks import palette
from cloformer_deploy.tasks import Outputs
from cloformer_deploy.tasks.detection import AGREED_OVERLAP, AGREED_SCORE, agreed, detections_of

if TYPE_CHECKING:
    from cloformer_deploy.tasks.boxes import Detections

ONLY_PYTORCH, ONLY_ARTIFACT = "white", "red"
_LINE = 2


class Boxes:
    """See `pictures.Drawing`."""

    title = "Detections"
    explanation = (
        f"Detections of a score of {AGREED_SCORE:g} or more. Below each artifact's, white boxes are PyTorch's alone, "
        "red ones the artifact's alone."
    )
    first_color = 1

    def answer(self, image: Image.Image, outputs: Outputs) -> Image.Image:
        """See `Drawing.answer`."""
        found = _shown(outputs)
        return _drawn(image, zip(found.boxes, map(_color, found.classes.tolist()), strict=True))

    def truth(self, image: Image.Image, truth: NDArray[Any]) -> Image.Image:
        """See `Drawing.truth`; ignored objects are left out."""
        counted = truth[truth[:, 5] == 0]
        return _drawn(image, zip(counted[:, :4], map(_color, counted[:, 4].astype(int).tolist()), strict=True))

    def difference(self, image: Image.Image, expected: Outputs, found: Outputs) -> Image.Image:
        """See `Drawing.difference`."""
        theirs, mine = _shown(expected), _shown(found)
        boxes = [(box, ONLY_PYTORCH) for box in _lacking(theirs, mine)]
        boxes += [(box, ONLY_ARTIFACT) for box in _lacking(mine, theirs)]
        return _drawn(Image.new("RGB", image.size), boxes)

    def agreement(self, evidence: bytes) -> float:
        """See `Drawing.agreement`: the share of PyTorch's detections; 1 without any."""
        same, count = agreed(evidence)
        return same / count if count else 1.0


def _shown(outputs: Outputs) -> "Detections":
    return detections_of(outputs, 0, least_score=AGREED_SCORE)


def _lacking(first: "Detections", second: "Detections") -> NDArray[np.float32]:
    """Return the boxes of one set that no box of their class in another overlaps enough."""
    from cloformer_deploy.tasks.boxes import overlaps

    same = (overlaps(first.boxes, second.boxes) >= AGREED_OVERLAP) & (first.classes[:, None] == second.classes[None, :])
    lacking: NDArray[np.float32] = first.boxes[~same.any(axis=1)]
    return lacking


def _color(index: int) -> tuple[int, int, int]:
    red, green, blue = palette()[(1 + index) % 255].tolist()
    return red, green, blue


def _drawn(image: Image.Image, boxes: Iterable[tuple[NDArray[np.float32], str | tuple[int, int, int]]]) -> Image.Image:
    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    for box, color in boxes:
        left, top, right, bottom = (float(edge) for edge in box * np.tile(np.array(image.size, np.float32), 2))
        pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=color, width=_LINE)
    return drawn
