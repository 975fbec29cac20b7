"""Statistics of maps of classes: what the mean IoU needs of each image, and bootstrap intervals over images.

Of an image's confusion matrix only the diagonal and the sums of rows and columns count. They are compact, they add up
over images, and a bootstrap over images re-weights them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.tasks.base import Interval
from cloformer_deploy.tasks.bootstrap import RESAMPLES, bootstrap_ci95, expanded_tail, resampled

IGNORED = 255
"""Value of a mask's pixels whose class does not count."""
Classes = NDArray[np.uint8]
Counts = NDArray[np.float64]


@dataclass(frozen=True)
class PixelCounts:
    """Counts of pixels of several images; all arrays have one row per image.

    Attributes:
        same: pixels with PyTorch's class, (n,).
        total: pixels, (n,).
        labeled: whether the images have masks.
        right: pixels of each class that are found as such, (n, classes).
        true: pixels of each class in the masks, (n, classes).
        found: pixels that are counted and found as each class, (n, classes).
    """

    same: Counts
    total: Counts
    labeled: bool
    right: Counts
    true: Counts
    found: Counts


def packed(found: Classes, expected: Classes, mask: Classes | None, num_classes: int, *, valid: bool) -> bytes:
    """Return the counts of one image, little-endian 32-bit integers.

    Args:
        found: classes of an artifact, (H, W).
        expected: PyTorch's, (H, W).
        mask: the right classes, (H, W), or `IGNORED`; None without labels.
        num_classes: number of classes.
        valid: false for an image with NaN or infinity: no pixel is right.
    """
    same = int((found == expected).sum()) if valid else 0
    counts = np.zeros((3, num_classes), "<u4")
    if mask is not None:
        counted = mask != IGNORED
        true, answers = mask[counted], found[counted]
        counts[1] = np.bincount(true, minlength=num_classes)
        if valid:
            counts[0] = np.bincount(true[true == answers], minlength=num_classes)
            counts[2] = np.bincount(answers, minlength=num_classes)
    head = np.array([same, found.size, mask is not None], "<u4")
    return head.tobytes() + counts.tobytes()


def unpacked(evidence: Sequence[bytes]) -> PixelCounts:
    """Return the counts of several images, from `packed`."""
    rows = np.stack([np.frombuffer(item, "<u4") for item in evidence]).astype(np.float64)
    right, true, found = np.split(rows[:, 3:], 3, axis=1)
    return PixelCounts(rows[:, 0], rows[:, 1], bool(rows[:, 2].all()), right, true, found)


def mean_iou(right: Counts, true: Counts, found: Counts) -> Counts:
    """Return the mean intersection over union of the classes that occur in the masks, 0..1; NaN without any.

    Args:
        right: pixels of each class that are found as such, (..., classes).
        true: pixels of each class in the masks, (..., classes).
        found: pixels found as each class, (..., classes).
    """
    occurs = true > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        ious = np.where(occurs, right / (true + found - right), 0.0)
        return np.asarray(ious.sum(axis=-1) / occurs.sum(axis=-1), np.float64)


def score(counts: PixelCounts) -> float:
    """Return the mean IoU of all images together."""
    return float(mean_iou(*(each.sum(axis=0) for each in (counts.right, counts.true, counts.found))))


def score_ci95(counts: PixelCounts) -> Interval:
    """Return the interval of the mean IoU, 0..1: a bootstrap over images."""

    def scores(weights: Counts) -> Counts:
        return mean_iou(*(weights @ each for each in (counts.right, counts.true, counts.found)))

    return bootstrap_ci95(scores, len(counts.total), (0.0, 1.0))


def chance(counts: PixelCounts) -> float:
    """Return the mean IoU of as many pixels of each class, strewn over the images at random."""
    true, found = counts.true.sum(axis=0), counts.found.sum(axis=0)
    return float(mean_iou(true * found / max(true.sum(), 1.0), true, found))


def drop_ci95_pp(before: PixelCounts, after: PixelCounts) -> Interval:
    """Return the interval of the fall of the mean IoU, percentage points: a paired bootstrap over images."""

    def drops(weights: Counts) -> Counts:
        old, new = (
            mean_iou(*(weights @ each for each in (side.right, side.true, side.found))) for side in (before, after)
        )
        return 100 * (old - new)

    return bootstrap_ci95(drops, len(after.total), (-100.0, 100.0))


@dataclass(frozen=True)
class ClassDrops:
    """The fall of the IoU of each class that occurs in the masks; arrays have one entry per such class.

    Attributes:
        index: the class.
        images: number of images in which it occurs.
        before: PyTorch's IoU, 0..1.
        after: the artifact's.
        low: lower end of the 95 % interval of the fall, percentage points.
        high: upper end.
        p_value: two-sided, of the permutation test that exchanges PyTorch and the artifact image by image.
    """

    index: NDArray[np.intp]
    images: NDArray[np.intp]
    before: Counts
    after: Counts
    low: Counts
    high: Counts
    p_value: Counts


def class_drops(before: PixelCounts, after: PixelCounts) -> ClassDrops:
    """Return the fall of each class's IoU, with a paired bootstrap and a permutation test over images.

    A class of few images has a wide interval and no small p-value, however its IoU changes.
    """
    index = np.flatnonzero(after.true.sum(axis=0))
    true = after.true[:, index]
    sides = [(side.right[:, index], side.found[:, index]) for side in (before, after)]
    n, images = len(true), (true > 0).sum(axis=0)

    def iou(right: Counts, found: Counts, total: Counts) -> Counts:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(total > 0, right / (total + found - right), np.nan), np.float64)

    def drops(weights: Counts) -> Counts:
        old, new = (iou(weights @ right, weights @ found, weights @ true) for right, found in sides)
        return 100 * (old - new)

    old, new = (iou(right.sum(axis=0), found.sum(axis=0), true.sum(axis=0)) for right, found in sides)
    drawn = resampled(drops, n)
    low, high = np.full(len(index), -100.0), np.full(len(index), 100.0)
    for place in np.flatnonzero(images > 1):
        tail = expanded_tail(int(images[place]))
        low[place], high[place] = np.nanquantile(drawn[:, place], [tail, 1 - tail])
    exchanged = np.random.default_rng(0).integers(0, 2, (RESAMPLES, n)).astype(np.float64)
    (right, found), (other_right, other_found) = sides
    moved_right, moved_found = exchanged @ (other_right - right), exchanged @ (other_found - found)
    total = true.sum(axis=0)
    one = iou(right.sum(axis=0) + moved_right, found.sum(axis=0) + moved_found, total)
    two = iou(other_right.sum(axis=0) - moved_right, other_found.sum(axis=0) - moved_found, total)
    as_far = np.abs(one - two) >= np.abs(old - new) - 1e-12
    p_value = (1 + as_far.sum(axis=0)) / (1 + RESAMPLES)
    return ClassDrops(index, images, old, new, low, high, p_value)
