"""Maps of classes as logits, and two of them compared."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.tasks import Comparison
from cloformer_deploy.tasks.segmentation import LOGITS, Segmentation, classes_of

TASK = Segmentation()
CLASSES = 4
Maps = NDArray[np.float32]
Masks = NDArray[np.uint8]


def one_hot(classes: NDArray[np.integer]) -> Maps:
    """Logits (B, classes, H / 4, W / 4) whose classes are those of every fourth pixel."""
    maps: Maps = np.eye(CLASSES, dtype=np.float32)[classes].transpose(0, 3, 1, 2) * np.float32(10)
    return maps


def scenes(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Smooth random maps of classes (B, 8, 12)."""
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, CLASSES, (count, 4, 6)), np.ones((1, 2, 2), np.int64)).astype(np.int64)


def wide(classes: NDArray[np.integer]) -> Masks:
    """The classes that the task finds in `one_hot(classes)`, (B, H, W)."""
    return np.stack([classes_of(item) for item in one_hot(classes)])


def compared(before: Maps, after: Maps, masks: Masks | None, targets: Sequence[object] | None = None) -> Comparison:
    reference = {LOGITS.name: before}
    truths = None if masks is None else list(masks)
    sides = [TASK.evidence({LOGITS.name: each}, reference, truths) for each in (before, after)]
    return TASK.compare(sides[0], sides[1], targets)
