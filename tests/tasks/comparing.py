"""Compare two sets of outputs as an evaluation does: the task's evidence and the distances of each image."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.tasks import Comparison, Task
from cloformer_deploy.tasks.classification import LOGITS, Classification
from cloformer_deploy.tasks.distances import image_distances, summarize

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]
TASK: Task = Classification()


def evidence(logits: Logits, expected: Logits) -> list[bytes]:
    """Return the evidence of each image for logits and for PyTorch's, each (images, classes)."""
    return TASK.evidence({LOGITS.name: logits}, {LOGITS.name: expected})


def compared(expected: Logits, found: Logits, labels: Labels | None = None, batch: int | None = None) -> Comparison:
    """Return the whole comparison of two sets of logits, each (images, classes).

    Args:
        expected: PyTorch's logits.
        found: the artifact's.
        labels: the right classes, (images,), or None.
        batch: evidence and distances are taken of so many images at a time; None takes all at once.
    """
    step = batch or len(found)
    before: list[bytes] = []
    after: list[bytes] = []
    distances: list[bytes] = []
    for first in range(0, len(found), step):
        theirs, ours = (logits[first : first + step] for logits in (expected, found))
        before += evidence(theirs, theirs)
        after += evidence(ours, theirs)
        distances += image_distances({LOGITS.name: theirs}, {LOGITS.name: ours}, TASK.outputs)
    targets = None if labels is None else labels.tolist()
    return replace(TASK.compare(before, after, targets), **asdict(summarize(distances)))


def agreeing(found: Comparison) -> int:
    """Return the number of images with the same answer as PyTorch."""
    return round(found.agreement * found.n)


def right(found: Comparison) -> int:
    """Return the number of images that the artifact has right."""
    assert found.score is not None
    return round(found.score * found.n)


def lost_and_gained(found: Comparison) -> tuple[int, int]:
    """Return the counts that the drop consists of."""
    told = re.fullmatch(r"(\d+) lost, (\d+) gained of (\d+)", found.drop_detail)
    assert told is not None
    lost, gained, n = map(int, told.groups())
    assert n == found.n
    return lost, gained


def classes_as_logits(classes: Sequence[int], count: int) -> Logits:
    """Return logits (images, count) of these first classes."""
    return np.eye(count, dtype=np.float32)[list(classes)]
