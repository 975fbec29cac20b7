"""Average precision as COCO defines it, from matches that are made once per image.

The precision is interpolated at 101 recalls and averaged over IoU thresholds of 0.50 to 0.95 (T.-Y. Lin et al.,
"Microsoft COCO", arXiv 1405.0312, and its evaluation code). A detection is right or wrong whatever other images a set
has, so a bootstrap over images re-weights matches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.tasks.boxes import MOST_DETECTIONS, Boxes, Detections, areas, intersections, overlaps

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Intersection over union from which on a detection matches an object."""
RECALLS = np.linspace(0, 1, 101)
_BITS = 1 << np.arange(len(THRESHOLDS), dtype=np.uint16)

Counts = NDArray[np.float64]
Flags = NDArray[np.bool_]

ROW = np.dtype([("class", "<u2"), ("score", "<f4"), ("right", "<u2"), ("ignored", "<u2"), ("elsewhere", "<u2")])
"""A detection in the evidence of an image: class, score, and one bit per threshold of the matches."""
_NONE = 0xFFFF
"""Class of the rows that fill up the evidence of an image."""


@dataclass(frozen=True)
class Objects:
    """The objects of one image.

    Attributes:
        boxes: (n, 4).
        classes: (n,).
        ignored: detections of these are neither right nor wrong: crowds, and objects that are hardly visible; (n,).
    """

    boxes: Boxes
    classes: NDArray[np.int64]
    ignored: Flags

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> "Objects":
        """Return the objects of a truth, (n, 6): box, class, and 1 if it is ignored."""
        return cls(rows[:, :4], rows[:, 4].astype(np.int64), rows[:, 5] > 0)


def matched(found: Detections, objects: Objects) -> tuple[Flags, Flags]:
    """Return for each threshold and detection whether it is right, and whether it does not count, (10, n).

    Each detection, the highest score first, takes the object of its class that it overlaps most, of those that no
    other took; an ignored object, of which any number may be taken, only where no other is left. Of an ignored object
    the overlap is the share of the detection that lies in it.
    """
    right, ignored = (np.zeros((len(THRESHOLDS), len(found)), np.bool_) for _ in range(2))
    for index in set(objects.classes.tolist()) & set(found.classes.tolist()):
        mine = np.flatnonzero(found.classes == index)
        theirs = np.flatnonzero(objects.classes == index)
        theirs = theirs[np.argsort(objects.ignored[theirs], kind="stable")]
        crowd = objects.ignored[theirs]
        shared = _overlaps(found.boxes[mine], objects.boxes[theirs], crowd)
        for row, threshold in enumerate(THRESHOLDS):
            took = _taken(shared, crowd, min(float(threshold), 1 - 1e-10))
            hit = took >= 0
            right[row, mine[hit]] = ~crowd[took[hit]]
            ignored[row, mine[hit]] = crowd[took[hit]]
    return right, ignored


def _overlaps(boxes: Boxes, objects: Boxes, crowd: Flags) -> Counts:
    shared = overlaps(boxes, objects)
    if crowd.any():
        inside, own = intersections(boxes, objects[crowd]), areas(boxes)[:, None]
        shared[:, crowd] = np.divide(inside, own, out=np.zeros_like(inside), where=own > 0)
    return shared


def _taken(shared: Counts, crowd: Flags, threshold: float) -> NDArray[np.intp]:
    """Return the object that each detection takes; -1 for none."""
    took = np.full(len(shared), -1, np.intp)
    free = np.ones(shared.shape[1], np.bool_)
    for place in np.flatnonzero((shared >= threshold).any(axis=1)) if shared.size else ():
        for kind in (free & ~crowd, crowd):
            best = np.flatnonzero(kind & (shared[place] >= threshold))
            if best.size:
                # Of equal overlaps the last is taken, as COCO's evaluation does.
                took[place] = best[len(best) - 1 - int(np.argmax(shared[place, best][::-1]))]
                free[took[place]] = False
                break
    return took


def packed(found: Detections, objects: Objects | None, num_classes: int) -> bytes:
    """Return what the average precision needs of one image, equally many bytes for each.

    Args:
        found: at most `MOST_DETECTIONS`.
        objects: of the image; None where nothing says them.
        num_classes: number of classes.
    """
    rows = np.zeros(MOST_DETECTIONS, ROW)
    rows["class"] = _NONE
    counts = np.zeros(num_classes, "<u4")
    rows["class"][: len(found)], rows["score"][: len(found)] = found.classes, found.scores
    if objects is not None:
        counts[:] = np.bincount(objects.classes[~objects.ignored], minlength=num_classes)
        right, ignored = matched(found, objects)
        elsewhere, _ = matched(_rearranged(found, num_classes), objects)
        for name, flags in (("right", right), ("ignored", ignored), ("elsewhere", elsewhere)):
            rows[name][: len(found)] = (_BITS[:, None] * flags).sum(axis=0)
    return counts.tobytes() + rows.tobytes()


def _rearranged(found: Detections, num_classes: int) -> Detections:
    """Return the detections at the opposite side of the image, each of the next class: chance knows no better."""
    turned = 1 - found.boxes[:, [2, 3, 0, 1]]
    return Detections(turned, found.scores, (found.classes + 1) % num_classes)


@dataclass(frozen=True)
class Matches:
    """Detections of one class in several images, the highest score first.

    Attributes:
        images: index of the image of each detection, (n,).
        scores: of each detection, (n,).
        right: for each threshold, (10, n).
        ignored: likewise.
        objects: number of objects in each image, (images,).
    """

    images: NDArray[np.intp]
    scores: NDArray[np.float32]
    right: Flags
    ignored: Flags
    objects: Counts


def unpacked(evidence: Sequence[bytes], num_classes: int, *, elsewhere: bool = False) -> dict[int, Matches]:
    """Return the matches of each class that has an object, from `packed`.

    Args:
        evidence: of each image.
        num_classes: number of classes.
        elsewhere: take the matches of the detections in another arrangement, which are chance's.
    """
    size = 4 * num_classes
    counts = np.stack([np.frombuffer(item[:size], "<u4") for item in evidence]).astype(np.float64)
    rows = np.stack([np.frombuffer(item[size:], ROW) for item in evidence])
    images = np.repeat(np.arange(len(evidence)), MOST_DETECTIONS)
    flat = rows.ravel()
    classes = flat["class"].astype(np.int64)
    if elsewhere:
        classes = np.where(classes == _NONE, _NONE, (classes + 1) % num_classes)
    found: dict[int, Matches] = {}
    for index in np.flatnonzero(counts.sum(axis=0)).tolist():
        mine = np.flatnonzero(classes == index)
        mine = mine[np.argsort(-flat["score"][mine], kind="stable")]
        right, ignored = (
            (flat[name][mine][None, :] & _BITS[:, None]) > 0
            for name in ("elsewhere" if elsewhere else "right", "ignored")
        )
        found[index] = Matches(images[mine], flat["score"][mine], right, ignored, counts[:, index])
    return found


def merged(first: Matches, second: Matches) -> Matches:
    """Return the matches of both, the images of the second after those of the first."""
    scores = np.concatenate([first.scores, second.scores])
    order = np.argsort(-scores, kind="stable")
    images = np.concatenate([first.images, second.images + len(first.objects)])
    right, ignored = (
        np.concatenate(each, axis=1)[:, order]
        for each in ((first.right, second.right), (first.ignored, second.ignored))
    )
    objects = np.concatenate([first.objects, second.objects])
    return Matches(images[order], scores[order], right, ignored, objects)


def precisions(matches: Matches, weights: Counts) -> Counts:
    """Return the average precision of a class at each threshold, 0..1, for sets of images.

    Args:
        matches: of the class.
        weights: how often each image is in each set, (sets, images).

    Returns:
        (sets, 10); NaN where a set has no object of the class.
    """
    objects = weights @ matches.objects
    found = np.zeros((len(weights), len(THRESHOLDS)))
    for row, (right, ignored) in enumerate(zip(matches.right, matches.ignored, strict=True)):
        hits = np.flatnonzero(right)  # elsewhere the recall does not rise
        ranks = weights @ _up_to(hits, matches.images, ~ignored, weights.shape[1])
        found[:, row] = _interpolated(np.cumsum(weights[:, matches.images[hits]], axis=1), ranks, objects)
    found[objects == 0] = np.nan
    return found


def _up_to(places: NDArray[np.intp], images: NDArray[np.intp], counted: Flags, n: int) -> Counts:
    """Return how many counted detections each of n images has up to each place of the ranking, (n, places)."""
    counts = np.zeros((n, len(places) + 1))
    np.add.at(counts, (images[counted], np.searchsorted(places, np.flatnonzero(counted))), 1)
    return np.cumsum(counts[:, :-1], axis=1)


def _interpolated(hits: Counts, ranks: Counts, objects: Counts) -> Counts:
    """Return the mean over `RECALLS` of the highest precision at that recall or a higher one, (sets,).

    Args:
        hits: right detections up to each right one, (sets, n).
        ranks: detections up to each right one, (sets, n).
        objects: number of objects, (sets,).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        reached = np.searchsorted(RECALLS, hits / objects[:, None], side="right")
        precision = hits / np.maximum(ranks, np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    newly = np.diff(reached, axis=1, prepend=0)
    return np.asarray((envelope * newly).sum(axis=1) / len(RECALLS), np.float64)


def mean_precision(classes: Sequence[Counts]) -> Counts:
    """Return the mean over classes and thresholds, (sets,), of what `precisions` returned for each class."""
    stacked = np.stack(classes)
    with np.errstate(invalid="ignore"):
        counted = ~np.isnan(stacked)
        return np.asarray(np.nansum(stacked, axis=(0, 2)) / np.maximum(counted.sum(axis=(0, 2)), 1), np.float64)


def class_count(evidence: bytes) -> int:
    """Return the number of classes that `packed` was given."""
    return (len(evidence) - MOST_DETECTIONS * ROW.itemsize) // 4
