"""What values a tensor takes over a calibration set: a histogram that grows with them, and the ranges it suggests."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

BINS = 4096
SMALLEST_SCALE = 1e-30
"""Of a tensor that is always 0; its reciprocal is a float32."""
_HALF = BINS // 2
_CANDIDATES = 64


@dataclass(frozen=True)
class Range:
    """The values that are told apart; 0 is one of them, for padding is made of it."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= 0 <= self.high:
            raise ValueError(f"the range {self.low} to {self.high} does not hold 0")

    def grid(self, bits: int) -> tuple[float, int]:
        """Scale and zero point of the 2^bits unsigned levels, of which one is 0 exactly."""
        steps = 2**bits - 1
        scale = max((self.high - self.low) / steps, SMALLEST_SCALE)
        return scale, min(max(round(-self.low / scale), 0), steps)


@dataclass
class Histogram:
    """Counts of values in `BINS` bins of one width, over [-reach, reach); one pass, whatever comes.

    When a value lies outside, neighbouring bins are merged until it fits: `reach` is always a power of 2, so that
    what was counted stays exact.

    Attributes:
        low: the smallest value.
        high: the largest value.
        reach: 0 before the first value.
    """

    low: float = 0.0
    high: float = 0.0
    reach: float = 0.0
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))

    def add(self, values: Tensor) -> None:
        """Count values of any shape.

        Raises:
            ValueError: one is NaN or infinite.
        """
        low, high = (bound.item() for bound in torch.aminmax(values))
        largest = max(-low, high)
        if not np.isfinite(largest):
            raise ValueError("a value is NaN or infinite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._reach_out(largest)
        if largest == 0:  # of no width: all in the bin of 0
            self.counts[_HALF] += values.numel()
            return
        # histc closes its last bin on the right; a value there would be `reach` itself, which `_reach_out` excludes.
        self.counts += torch.histc(values.float(), BINS, -self.reach, self.reach).double().numpy()

    def _reach_out(self, largest: float) -> None:
        if largest < self.reach or largest == 0:
            return
        needed = float(2.0 ** np.floor(np.log2(largest) + 1))
        while 0 < self.reach < needed:
            quarter = self.counts.reshape(_HALF, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(_HALF // 2), quarter, np.zeros(_HALF // 2)])
            self.reach *= 2
        self.reach = max(self.reach, needed)

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        width = 2 * self.reach / BINS
        return np.asarray((np.arange(BINS) - _HALF + 0.5) * width, np.float64)

    def clipped(self, kept: Range) -> float:
        """The share of values outside a range, to within a bin."""
        total = self.counts.sum()
        outside = (self.centres < kept.low) | (self.centres > kept.high)
        return float(self.counts[outside].sum() / total) if total else 0.0


Method = Callable[[Histogram, int], Range]
"""Chooses the range of a tensor for so many levels."""


def min_max(seen: Histogram, levels: int) -> Range:  # noqa: ARG001 - as every method
    """All that was seen."""
    return Range(seen.low, seen.high)


def percentile(seen: Histogram, levels: int, share: float = 1e-5) -> Range:  # noqa: ARG001
    """All but `share` of the values, half of them at each end."""
    total = seen.counts.sum()
    if total == 0:
        return Range(0.0, 0.0)
    below = np.cumsum(seen.counts) / total
    width = 2 * seen.reach / BINS
    first = int(np.searchsorted(below, share / 2, side="right"))
    last = int(np.searchsorted(below, 1 - share / 2))
    low, high = seen.centres[first] - width / 2, seen.centres[min(last, BINS - 1)] + width / 2
    return Range(min(0.0, max(low, seen.low)), max(0.0, min(high, seen.high)))


def least_squares(seen: Histogram, levels: int) -> Range:
    """The range of least squared error: what rounding costs inside it, and clipping outside.

    Rounding to steps of s costs s^2 / 12 a value. Each end is tried at `_CANDIDATES` shares of what was seen.
    """
    centres, counts = seen.centres, seen.counts
    shares = np.linspace(1 / _CANDIDATES, 1, _CANDIDATES)
    # Sums over the bins up to each, of 1, x and x^2: the cost of clipping at t is that of (x - t)^2 beyond it.
    sums = [np.concatenate([[0.0], np.cumsum(counts * centres**power)]) for power in range(3)]

    def cost(bounds: NDArray[np.float64], below: bool) -> NDArray[np.float64]:
        index = np.searchsorted(centres, bounds)
        zero, one, two = ((part[index] if below else part[-1] - part[index]) for part in sums)
        return np.asarray(two - 2 * bounds * one + bounds**2 * zero)

    lows, highs = shares * min(seen.low, 0.0), shares * max(seen.high, 0.0)
    width = highs[:, None] - lows[None, :]
    rounding = (width / (levels - 1)) ** 2 / 12 * counts.sum()
    total = rounding + cost(highs, below=False)[:, None] + cost(lows, below=True)[None, :]
    high, low = np.unravel_index(int(np.argmin(total)), total.shape)
    return Range(float(lows[low]), float(highs[high]))


class Observer(fx.Interpreter):
    """Runs a traced model and counts the values of some of its tensors."""

    def __init__(self, module: fx.GraphModule, names: Iterable[str]) -> None:
        super().__init__(module)
        self.histograms = {name: Histogram() for name in names}

    def run_node(self, n: fx.Node) -> Any:
        """See `fx.Interpreter.run_node`."""
        value = super().run_node(n)
        if n.name in self.histograms:
            try:
                self.histograms[n.name].add(value)
            except ValueError as error:
                raise ValueError(f"{n.name}: {error}") from error
        return value


def observe(module: fx.GraphModule, names: Iterable[str], batches: Iterable[Tensor]) -> Mapping[str, Histogram]:
    """The histograms of the named tensors over batches of normalised images (B, 3, H, W).

    Raises:
        ValueError: a tensor is NaN or infinite.
    """
    observer = Observer(module, names)
    with torch.inference_mode():
        for images in batches:
            observer.run(images)
    return observer.histograms
