"""Axes of plots: round ticks, and where a value lies between the ends."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_INTERVALS = 5
_REACH = 3.0
"""An axis is extended to outliers that lie within this many times the span of all other values."""


@dataclass(frozen=True)
class Axis:
    """A linear axis from its first tick to its last.

    Attributes:
        ticks: ascending; at least two.
        decimals: number of decimals that the ticks need.
    """

    ticks: tuple[float, ...]
    decimals: int

    def at(self, value: float) -> float:
        """Return the position of a value in percent of the axis; a value beyond an end is placed at that end."""
        low, high = self.ticks[0], self.ticks[-1]
        return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)

    def beyond(self, value: float) -> int:
        """Return -1 for a value below the axis, 1 for one above it, else 0."""
        return (value > self.ticks[-1]) - (value < self.ticks[0])

    def label(self, tick: float) -> str:
        """Return the text of a tick."""
        return f"{tick:,.{self.decimals}f}"


def spanning(values: Iterable[float], most: float = math.inf, outliers: Iterable[tuple[float, float]] = ()) -> Axis:
    """Return an axis with about six ticks that contains all values.

    Args:
        values: that the axis has to contain.
        most: no tick is larger, such as 100 for percentages.
        outliers: intervals that it contains too, unless they are so far off that all else would be compressed.
    """
    held, others = list(values), list(outliers)
    if not held:
        held, others = [end for interval in others for end in interval] or [0.0, 1.0], []
    low, high = min(held), max(held)
    reach = _REACH * (high - low)
    near = [ends for ends in others if low - reach <= ends[0] and ends[1] <= high + reach]
    low, high = min([low, *(first for first, _ in near)]), max([high, *(last for _, last in near)])
    if low == high:
        spare = abs(low) / 100 or 1.0
        low, high = low - spare, min(high + spare, most)
    magnitude = 10.0 ** math.floor(math.log10((high - low) / _INTERVALS))
    step = next(step * magnitude for step in _STEPS if step * magnitude * _INTERVALS >= (high - low) * 0.999)
    # Rounded: ten steps of 0.1 are one, not a little less.
    first, last = math.floor(round(low / step, 6)), math.ceil(round(high / step, 6))
    decimals = max(0, -math.floor(math.log10(step)) + (step / magnitude == _STEPS[2]))
    ticks = (round(index * step, decimals) for index in range(first, last + 1))
    return Axis(tuple(tick for tick in ticks if tick <= most), decimals)
