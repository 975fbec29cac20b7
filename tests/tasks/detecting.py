"""Random objects, detections near them, and outputs of a detector that mean them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.tasks import Comparison
from cloformer_deploy.tasks.detection import BOXES, SCORES, Detection

CLASSES = 4
CELLS = 84
"""Cells of an image of 64 x 64: 64, 16 and 4."""
TASK = Detection()
Rows = NDArray[np.float32]
Outputs = dict[str, NDArray[np.float32]]


def objects(count: int, seed: int, ignored: float = 0.0) -> list[Rows]:
    """Objects of some images, one to five each, (n, 6)."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        n = int(random.integers(1, 6))
        low, size = random.uniform(0, 0.6, (n, 2)), random.uniform(0.1, 0.4, (n, 2))
        kinds, left_out = random.integers(0, CLASSES, (n, 1)), random.random((n, 1)) < ignored
        found.append(np.hstack([low, low + size, kinds, left_out]).astype(np.float32))
    return found


def outputs(truths: Sequence[Rows], seed: int, noise: float = 0.01, clutter: int = 10) -> Outputs:
    """Outputs of a detector that finds the objects, with noise, and clutter of low scores."""
    random = np.random.default_rng(seed)
    boxes = np.zeros((len(truths), CELLS, 4), np.float32)
    scores = np.full((len(truths), CELLS, CLASSES), 1e-4, np.float32)
    for index, rows in enumerate(truths):
        low = random.uniform(0, 0.8, (CELLS, 2))
        boxes[index] = np.hstack([low, low + random.uniform(0.05, 0.2, (CELLS, 2))])
        places = random.permutation(CELLS)[: len(rows) + clutter]
        for place, row in zip(places, rows, strict=False):
            boxes[index, place] = row[:4] + random.normal(0, noise, 4)
            scores[index, place, int(row[4])] = random.uniform(0.5, 0.95)
        for place in places[len(rows) :]:
            scores[index, place, random.integers(CLASSES)] = random.uniform(0.02, 0.4)
    boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2] + 0.02)
    return {BOXES.name: boxes.clip(0, 1), SCORES.name: scores}


def compared(
    before: Outputs, after: Outputs, truths: Sequence[Rows] | None, targets: Sequence[object] | None = None
) -> Comparison:
    """Compare two lots of outputs."""
    sides = [TASK.evidence(each, before, truths) for each in (before, after)]
    return TASK.compare(sides[0], sides[1], targets)
