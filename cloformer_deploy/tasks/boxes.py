"""Boxes of objects: overlap, non-maximum suppression, and the detections of an image.

A box is left, top, right and bottom edge, from 0 to 1 of the image's width and height.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
"""Boxes (n, 4)."""

LEAST_SCORE = 0.01
"""Detections below it are left out: they change the average precision by less than 0.01 pp."""
MOST_OVERLAP = 0.6
"""Intersection over union above which the one of the lower score of two boxes of a class is suppressed."""
MOST_DETECTIONS = 100
"""Detections of an image, as COCO's evaluation counts."""
_BLOCK = 256
"""Boxes whose overlaps are computed at a time."""


@dataclass(frozen=True)
class Detections:
    """Detections of one image, the highest score first.

    Attributes:
        boxes: (n, 4).
        scores: 0..1, (n,).
        classes: index of each class, (n,).
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)


def areas(boxes: Boxes) -> NDArray[np.float64]:
    """Return the area of each box, 0 for one that is turned inside out; (n,)."""
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0)
    return np.asarray(sides.prod(axis=1), np.float64)


def intersections(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Return the area of the intersection of each box of one set with each of another, (n, m)."""
    low = np.maximum(first[:, None, :2].astype(np.float64), second[None, :, :2])
    high = np.minimum(first[:, None, 2:].astype(np.float64), second[None, :, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(axis=2), np.float64)


def overlaps(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Return the intersection over union of each box of one set with each of another, (n, m); 0 for empty boxes."""
    common = intersections(first, second)
    union = areas(first)[:, None] + areas(second)[None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def suppressed(boxes: Boxes, classes: NDArray[np.int64], most_overlap: float, most: int) -> list[int]:
    """Return the indices of the boxes that non-maximum suppression within each class keeps, in their order.

    Args:
        boxes: the highest score first, (n, 4).
        classes: (n,).
        most_overlap: see `MOST_OVERLAP`.
        most: boxes that are kept, over all classes.
    """
    kept: list[int] = []
    for start in range(0, len(boxes), _BLOCK):
        if len(kept) >= most:
            break
        block = np.arange(start, min(start + _BLOCK, len(boxes)))

        def covered(by: NDArray[np.intp], block: NDArray[np.intp] = block) -> NDArray[np.bool_]:
            shared = overlaps(boxes[by], boxes[block]) > most_overlap
            return np.asarray(shared & (classes[by][:, None] == classes[block]))

        free: NDArray[np.bool_] = np.asarray(~covered(np.asarray(kept, np.intp)).any(axis=0))
        each = covered(block)
        for place in range(len(block)):
            if free[place]:
                kept.append(start + place)
                free &= ~each[place]
    return kept[:most]


def detections(
    boxes: Boxes,
    scores: NDArray[np.float32],
    least_score: float = LEAST_SCORE,
    most_overlap: float = MOST_OVERLAP,
    most: int = MOST_DETECTIONS,
) -> Detections:
    """Return the detections of one image: the boxes that suppression keeps for each class by itself.

    Args:
        boxes: of each cell, (N, 4).
        scores: of each cell and class, (N, classes).
        least_score: lower scores are left out.
        most_overlap: see `MOST_OVERLAP`.
        most: detections that are kept in all, the highest scores first.
    """
    classes, cells = np.nonzero(least_score <= scores.T)
    order = np.argsort(-scores[cells, classes], kind="stable")  # of equal scores the first class and cell wins
    classes, cells = classes[order], cells[order]
    kept = suppressed(boxes[cells], classes, most_overlap, most)
    classes, cells = classes[kept], cells[kept]
    return Detections(boxes[cells], scores[cells, classes], classes)
