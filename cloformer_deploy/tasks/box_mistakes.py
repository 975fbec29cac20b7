"""Mistakes of detectors' outputs: boxes in another form, cells that are moved, and scores that are not scores.

A mistake is named if PyTorch's boxes or scores with it are the artifact's, and clearly more so than without it.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.tasks.class_order import order_of, order_sentence
from cloformer_deploy.tasks.distances import sqnr_db

Values = NDArray[np.float64]
LEAST_SQNR_DB = 10.0
"""SQNR that PyTorch's outputs with the mistake must reach."""
LEAST_GAIN_DB = 6.0
"""Gain over PyTorch's outputs without it."""
LEAST_PIXELS = 8.0
"""Factor from which on boxes are in pixels, not in shares of the image."""
_SHARES = (16, 4, 1)
"""Cells of the maps of strides 8, 16 and 32, in parts of their sum."""
_STRIDES = (8, 16, 32)


def named_of_boxes(expected: NDArray[np.float32], found: NDArray[np.float32]) -> Iterator[str]:
    """Yield the mistake that explains an artifact's boxes (B, N, 4), in a sentence."""
    ours, theirs = (np.asarray(each, np.float64) for each in (expected, found))
    right = _db(ours, theirs)
    tried = [(_db(change(ours), theirs), what) for what, change in _forms()]
    tried += list(_scaled(ours, theirs))
    tried += list(_moved(ours, theirs))
    best, what = max(tried, key=lambda item: item[0])
    if best >= max(LEAST_SQNR_DB, right + LEAST_GAIN_DB):
        yield f"{what}: such boxes of PyTorch's are at {best:.1f} dB, PyTorch's own at {right:.1f} dB"


def named_of_scores(
    expected: NDArray[np.float32], found: NDArray[np.float32], labels: Sequence[str] | None
) -> Iterator[str]:
    """Yield the mistakes that explain an artifact's scores (B, N, classes), in sentences."""
    ours, theirs = (np.asarray(each, np.float64) for each in (expected, found))
    right = _db(ours, theirs)
    for what, mistaken, read in (
        ("the scores are logits: the sigmoid is missing", ours, _sigmoid(theirs)),
        ("the sigmoid is applied twice", _sigmoid(ours), theirs),
    ):
        best = _db(mistaken, read)
        if best >= max(LEAST_SQNR_DB, right + LEAST_GAIN_DB):
            yield f"{what}: with that PyTorch's scores are at {best:.1f} dB, without at {right:.1f} dB"
            return
    before, after = (each.reshape(-1, each.shape[-1]) for each in (expected, found))
    kept = np.argsort(-before.max(axis=1), kind="stable")[: max(len(before) // 10, 1)]
    order = order_of(before[kept], after[kept])
    if (order != np.arange(len(order))).any():
        there, own = f"{_db(ours[..., order], theirs):.1f} dB", f"{right:.1f} dB"
        yield f"{order_sentence(order, labels)}: in that order PyTorch's scores are at {there}, in its own at {own}"


def _forms() -> Iterator[tuple[str, Callable[[Values], Values]]]:
    yield "the boxes are transposed: y comes before x", lambda boxes: boxes[..., [1, 0, 3, 2]]
    yield "the boxes are xywh (left, top, width, height), not corners", _sized
    yield "the boxes are cxcywh (center, width, height), not corners", _centered
    yield "the boxes are mirrored left to right", lambda boxes: _flipped(boxes, 0)
    yield "the boxes are upside down", lambda boxes: _flipped(boxes, 1)


def _sized(boxes: Values) -> Values:
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def _centered(boxes: Values) -> Values:
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def _flipped(boxes: Values, axis: int) -> Values:
    turned = boxes.copy()
    turned[..., axis], turned[..., axis + 2] = 1 - boxes[..., axis + 2], 1 - boxes[..., axis]
    return turned


def _scaled(ours: Values, theirs: Values) -> Iterator[tuple[float, str]]:
    """Yield boxes in pixels, of the width and height that fit best."""
    for what, order in (("", [0, 1, 2, 3]), (" and transposed", [1, 0, 3, 2])):
        boxes = ours[..., order]
        factors = []
        for axis in (0, 1):
            share, pixels = (each[..., axis::2].ravel() for each in (boxes, theirs))
            factors.append(float(share @ pixels) / max(float(share @ share), 1e-12))
        if min(factors) >= LEAST_PIXELS:
            told = " x ".join(f"{factor:.0f}" for factor in factors)
            yield _db(boxes * (factors * 2), theirs), f"the boxes are in pixels of {told}{what}, not from 0 to 1"


def _moved(ours: Values, theirs: Values) -> Iterator[tuple[float, str]]:
    """Yield boxes whose cells are moved, map by map, by what fits best."""
    cells = ours.shape[1]
    if cells % sum(_SHARES):
        return
    ends = np.cumsum([cells * share // sum(_SHARES) for share in _SHARES])
    shifted, told = ours.copy(), []
    for stride, place in zip(_STRIDES, np.split(np.arange(cells), ends[:-1]), strict=True):
        moved = np.median((theirs - ours)[:, place].reshape(-1, 2, 2), axis=(0, 1))
        shifted[:, place] += np.tile(moved, 2)
        if np.abs(moved).max() > 1e-3:
            told.append(f"stride {stride} by {moved[0]:+.3f} of the width and {moved[1]:+.3f} of the height")
    if told:
        yield _db(shifted.clip(0, 1), theirs), f"the cells are moved ({', '.join(told)})"


def _sigmoid(values: Values) -> Values:
    return np.asarray(1 / (1 + np.exp(-values.clip(-500, 500))), np.float64)


def _db(expected: Values, found: Values) -> float:
    """Return the SQNR of values whose mean over all images is left out: cells lie where they lie in every file."""
    signal = expected - expected.mean(axis=(0, 1))
    return sqnr_db(float((signal**2).sum()), float(((expected - found) ** 2).sum()))
