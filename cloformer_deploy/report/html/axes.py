"""Axes of plots: round ticks, and where a value lies between the ends."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_INTERVALS = 5


@dataclass(frozen=True)
class Axis:
    """A linear axis from its first tick to its last.

    Attributes:
        ticks: ascending, two at least.
        decimals: that the ticks need.
    """

    ticks: tuple[float, ...]
    decimals: int

    def at(self, value: float) -> float:
        """Where a value lies, percent of the axis; beyond an end, at that end."""
        low, high = self.ticks[0], self.ticks[-1]
        return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)

    def label(self, tick: float) -> str:
        """A tick's text."""
        return f"{tick:,.{self.decimals}f}"


def spanning(values: Iterable[float], most: float = math.inf) -> Axis:
    """An axis that holds all values, with about six ticks and none beyond `most`."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
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
