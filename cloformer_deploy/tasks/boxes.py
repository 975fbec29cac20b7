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
"""Detections of an image, as COCO's evaluation counts; so many are kept of each class at most."""


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


def suppressed(boxes: Boxes, scores: NDArray[np.float32], most_overlap: float) -> NDArray[np.intp]:
    """Return the indices of the boxes that non-maximum suppression keeps, `MOST_DETECTIONS` at most, the best first.

    Args:
        boxes: of one class, (n, 4).
        scores: (n,). Of equal scores the first wins.
        most_overlap: see `MOST_OVERLAP`.
    """
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while left.size and len(kept) < MOST_DETECTIONS:
        best, left = left[:1], left[1:]
        kept.append(int(best[0]))
        left = left[overlaps(boxes[best], boxes[left])[0] <= most_overlap]
    return np.asarray(kept, np.intp)


def detections(
    boxes: Boxes,
    scores: NDArray[np.float32],
    least_score: float = LEAST_SCORE,
    most_overlap: float = MOST_OVERLAP,
    most: int = MOST_DETECTIONS,
) -> Detections:
    """Return the detections of one image: for each class by itself the boxes that suppression keeps.

    Args:
        boxes: of each cell, (N, 4).
        scores: of each cell and class, (N, classes).
        least_score: lower scores are left out.
        most_overlap: see `MOST_OVERLAP`.
        most: detections that are kept in all, the highest scores first.
    """
    rows: list[NDArray[np.intp]] = []
    columns: list[NDArray[np.int64]] = []
    for index in np.flatnonzero((scores >= least_score).any(axis=0)):
        candidates = np.flatnonzero(scores[:, index] >= least_score)
        kept = candidates[suppressed(boxes[candidates], scores[candidates, index], most_overlap)]
        rows.append(kept)
        columns.append(np.full(len(kept), index, np.int64))
    if not rows:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    cells, classes = np.concatenate(rows), np.concatenate(columns)
    order = np.argsort(-scores[cells, classes], kind="stable")[:most]
    cells, classes = cells[order], classes[order]
    return Detections(boxes[cells], scores[cells, classes], classes)
