"""Falls of the average precision from PyTorch to an artifact, with their intervals, over the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cloformer_deploy.tasks.average_precision import Counts, Matches, mean_precision, merged, precisions
from cloformer_deploy.tasks.base import ClassChange, Interval
from cloformer_deploy.tasks.bootstrap import RESAMPLES, bootstrap_ci95, expanded_tail, resampled

_FIRST_EXCHANGES = 100
_NO_CHANGE = 0.1
Classes = Mapping[int, Matches]
"""Matches of each class that has an object."""


def score(classes: Classes) -> float:
    """Return the average precision of all images together, 0..1."""
    return float(mean_precision(_each(classes, np.ones((1, _images(classes)))))[0])


def at_half(classes: Classes) -> float:
    """Return the average precision at an IoU of 0.50, 0..1."""
    return float(np.mean([found[0, 0] for found in _each(classes, np.ones((1, _images(classes))))]))


def score_ci95(classes: Classes) -> Interval:
    """Return the interval of the average precision, 0..1."""
    return bootstrap_ci95(lambda weights: mean_precision(_each(classes, weights)), _images(classes), (0.0, 1.0))


def _each(classes: Classes, weights: Counts) -> list[Counts]:
    return [precisions(matches, weights) for matches in classes.values()]


def _images(classes: Classes) -> int:
    return len(next(iter(classes.values())).objects)


@dataclass(frozen=True)
class Drops:
    """Falls of the average precision over the same resampled images, percentage points.

    Attributes:
        interval: of the mean over classes.
        classes: those whose precision changed, the surest loss first.
    """

    interval: Interval
    classes: tuple[ClassChange, ...]


def drops(before: Classes, after: Classes) -> Drops:
    """Return how far the average precision falls, in all and class by class: a paired bootstrap over images."""
    n = _images(before)
    if n < 2:
        return Drops((-100.0, 100.0), ())

    def falls(weights: Counts) -> Counts:
        old, new = (_each(side, weights) for side in (before, after))
        whole = mean_precision(old) - mean_precision(new)
        each = [(a - b).mean(axis=1) for a, b in zip(old, new, strict=True)]
        return 100 * np.stack([whole, *each], axis=1)

    drawn = resampled(falls, n)
    tail = expanded_tail(n)
    low, high = np.nanquantile(drawn[:, 0], [tail, 1 - tail])
    return Drops((float(low), float(high)), tuple(_changes(before, after, drawn[:, 1:])))


def _changes(before: Classes, after: Classes, drawn: Counts) -> Sequence[ClassChange]:
    once = np.ones((1, _images(before)))
    old, new = (np.array([found.mean() for found in _each(side, once)]) for side in (before, after))
    changed = np.flatnonzero(old != new)
    indices = list(before)
    found = []
    for place in changed.tolist():
        index = indices[place]
        images = int((before[index].objects > 0).sum())
        tail = expanded_tail(images) if images > 1 else 0.0
        low, high = np.nanquantile(drawn[:, place], [tail, 1 - tail]) if images > 1 else (-100.0, 100.0)
        p_value = min(1.0, _p_value(before[index], after[index]) * len(changed))
        detail = f"AP {old[place]:.1%} and {new[place]:.1%}"
        drop = float(100 * (old[place] - new[place]))
        found.append(ClassChange(index, images, drop, (float(low), float(high)), p_value, detail))
    return sorted(found, key=lambda item: (item.p_value, -item.drop_pp))


def _p_value(before: Matches, after: Matches) -> float:
    """Return the two-sided p-value of the permutation test that exchanges PyTorch and the artifact image by image.

    A few exchanges come first: where they show no change, more would not.
    """
    both, random = merged(before, after), np.random.default_rng(0)
    p_value = 1.0
    for exchanges in (_FIRST_EXCHANGES, RESAMPLES):
        exchanged = random.integers(0, 2, (exchanges, len(before.objects))).astype(np.float64)
        exchanged[0] = 0  # the two as they are
        first, second = np.hstack([1 - exchanged, exchanged]), np.hstack([exchanged, 1 - exchanged])
        fallen = np.abs(precisions(both, first).mean(axis=1) - precisions(both, second).mean(axis=1))
        p_value = float((fallen >= fallen[0] - 1e-12).mean())
        if p_value > _NO_CHANGE:
            break
    return p_value
