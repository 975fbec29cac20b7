"""Mistakes of class maps: classes in another order, and maps that are turned, mirrored or moved.

A mistake is named if PyTorch's logits with it are the artifact's, and clearly more so than without it.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.tasks.class_order import order_of, order_sentence
from cloformer_deploy.tasks.distances import centered, sqnr_db

Logits = NDArray[np.float32]
LEAST_SQNR_DB = 10.0
"""SQNR that PyTorch's map with the mistake must reach."""
LEAST_GAIN_DB = 3.0
"""Gain over PyTorch's map without it."""
_MARGIN = 2
"""Pixels at each edge that are left out, because a moved map has none there."""
_SAMPLES = 20_000
"""Most pixels on which the order of classes is looked for."""


def named(expected: Logits, found: Logits, labels: Sequence[str] | None) -> Iterator[str]:
    """Yield the mistakes that explain an artifact's logits (B, classes, H, W), in sentences."""
    ours, theirs = (np.asarray(centered(each), np.float64) for each in (expected, found))
    right = _db(ours, theirs)
    tried = [(_db(move(ours), theirs), what) for what, move in _moves(square=expected.shape[2] == expected.shape[3])]
    best, what = max(tried, key=lambda item: item[0])
    if best >= max(LEAST_SQNR_DB, right + LEAST_GAIN_DB):
        yield f"{what}: such a map of PyTorch's is at {best:.1f} dB, PyTorch's own at {right:.1f} dB"
        return
    columns = [np.moveaxis(each, 1, -1).reshape(-1, each.shape[1]) for each in (expected, found)]
    step = max(1, len(columns[0]) // _SAMPLES)
    before, after = (each[::step] for each in columns)
    moved = order_of(before, after)
    if (moved != np.arange(len(moved))).any():
        there, own = f"{_db(ours[:, moved], theirs):.1f} dB", f"{right:.1f} dB"
        yield f"{order_sentence(moved, labels)}: in that order PyTorch's map is at {there}, in its own at {own}"


def _moves(*, square: bool) -> Iterator[tuple[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]]:
    yield "the map is mirrored left to right", lambda maps: maps[..., ::-1]
    yield "the map is upside down", lambda maps: maps[:, :, ::-1]
    yield "the map is turned by half a turn", lambda maps: maps[:, :, ::-1, ::-1]
    if square:
        yield "the map is transposed: rows and columns are exchanged", lambda maps: maps.swapaxes(2, 3)
    for rows, columns in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)):
        yield _moved_text(rows, columns), _rolled(rows, columns)


def _moved_text(rows: int, columns: int) -> str:
    down, right = {1: "down", -1: "up"}.get(rows), {1: "to the right", -1: "to the left"}.get(columns)
    return f"the map is moved by one pixel {' and '.join(filter(None, (down, right)))}"


def _rolled(rows: int, columns: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda maps: np.roll(maps, (rows, columns), (2, 3))


def _db(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    inside = (slice(None), slice(None), slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
    signal, noise = expected[inside], expected[inside] - found[inside]
    return sqnr_db(float((signal**2).sum()), float((noise**2).sum()))
