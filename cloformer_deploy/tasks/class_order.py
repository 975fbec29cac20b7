"""The order of classes in an artifact's logits, and the words for it."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.tasks.distances import centered

LEAST_SQNR_DB = 10.0
"""SQNR that PyTorch's logits in another order must reach to explain an artifact's."""
LEAST_LABEL_GAIN_DB = 6.0
"""Gain over the logits in their own order. The order that fits best is tried, and noise always fits one a little."""
_NAMED = 8


def order_of(expected: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return for each column of the artifact the column of PyTorch that it holds, where clearly explains it.

    Columns are assigned by least squares (the Hungarian algorithm).
    """
    from scipy.optimize import linear_sum_assignment

    ours, theirs = centered(expected), centered(logits)
    squares = (theirs**2).sum(axis=0)[:, None] + (ours**2).sum(axis=0)
    order = linear_sum_assignment(np.maximum(squares - 2 * theirs.T @ ours, 0))[1]
    kept = np.arange(len(order))
    for cycle in _cycles(order):
        # Each cycle by itself: noise may exchange classes that are alike anyway, beside others that were truly moved.
        signal = float((ours[:, cycle] ** 2).sum())
        before = float(((theirs[:, cycle] - ours[:, cycle]) ** 2).sum())
        after = float(((theirs[:, cycle] - ours[:, order[cycle]]) ** 2).sum())
        if before > 0 and after <= min(signal / 10 ** (LEAST_SQNR_DB / 10), before / 10 ** (LEAST_LABEL_GAIN_DB / 10)):
            kept[cycle] = order[cycle]
    return kept


def order_sentence(order: NDArray[np.intp], labels: Sequence[str] | None) -> str:
    """Return in words what another order is.

    Args:
        order: for each class of an artifact the class of PyTorch that it holds; not their own order.
        labels: names of the classes.
    """
    moved = np.flatnonzero(order != np.arange(len(order)))
    shift = -int(order[0]) % len(order)
    if np.array_equal(order, np.roll(np.arange(len(order)), shift)):
        return f"the labels are rotated by {shift}: class i of PyTorch is {shift} further in the file"
    names = [str(index) if labels is None else labels[index] for index in range(len(order))]
    if len(moved) == 2:
        return f"the classes {names[moved[0]]} and {names[moved[1]]} are swapped"
    places = [f"{names[column]} holds {names[order[column]]}" for column in moved]
    told = ", ".join(places[:_NAMED]) + (", ..." if len(places) > _NAMED else "")
    return f"{len(moved)} classes are permuted: {told}"


def _cycles(order: NDArray[np.intp]) -> Iterator[list[int]]:
    """Yield the cycles of a permutation that have more than one element."""
    left = {index for index, target in enumerate(order.tolist()) if index != target}
    while left:
        cycle = [min(left)]
        while (following := int(order[cycle[-1]])) != cycle[0]:
            cycle.append(following)
        left -= set(cycle)
        yield cycle
