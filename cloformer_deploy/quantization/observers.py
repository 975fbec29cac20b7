"""Observe the values of tensors over a calibration set in growing histograms, and choose ranges from them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from cloformer_deploy.errors import ToolError
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.batches import each_batch

BINS = 4096
SMALLEST_SCALE = 1e-30
"""The scale of a tensor that is always 0; its reciprocal fits float32."""
_HALF = BINS // 2


@dataclass(frozen=True)
class Range:
    """The range of values that integers represent. It contains 0, which padding consists of."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= 0 <= self.high:
            raise ValueError(f"the range {self.low} to {self.high} does not contain 0")

    def grid(self, bits: int) -> tuple[float, int]:
        """Return scale and zero point of the 2^bits unsigned levels, one of which is exactly 0."""
        steps = 2**bits - 1
        scale = max((self.high - self.low) / steps, SMALLEST_SCALE)
        return scale, min(max(round(-self.low / scale), 0), steps)


@dataclass
class Histogram:
    """Counts of values in `BINS` bins of equal width over [-reach, reach), made in one pass.

    When a value lies outside, neighboring bins are merged until it fits. `reach` is always a power of 2, so the counts
    stay exact in whatever order the values come.

    Attributes:
        low: the smallest value, or 0.
        high: the largest value, or 0.
        reach: 0 until a value is not 0.
        counts: of each bin, from the lowest; the bin from 0 on is number `BINS` / 2.
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
        if not math.isfinite(largest):
            raise ValueError("a value is NaN or infinite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._reach_out(largest)
        if largest == 0:  # the bins have no width yet: all values are in the bin of 0
            self.counts[_HALF] += values.numel()
            return
        # The product is exact. torch.histc adds `reach` to each value, which rounds: whether a value just below 0 is
        # counted above it would depend on the current `reach`.
        numbers = (values.float() * (_HALF / self.reach)).floor().int() + _HALF
        self.counts += torch.bincount(numbers.flatten(), minlength=BINS).numpy()

    def _reach_out(self, largest: float) -> None:
        if largest < self.reach or largest == 0:
            return
        needed = math.ldexp(1.0, math.frexp(largest)[1])  # the first power of 2 above
        while 0 < self.reach < needed:
            merged = self.counts.reshape(_HALF, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(_HALF // 2), merged, np.zeros(_HALF // 2)])
            self.reach *= 2
        self.reach = needed

    def merge(self, other: "Histogram") -> None:
        """Count the values of another histogram too."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        largest = max(-self.low, self.high)
        self._reach_out(largest)
        mine = Histogram(reach=other.reach, counts=other.counts)
        mine._reach_out(largest)
        self.counts = self.counts + mine.counts

    def scaled(self, power: int) -> "Histogram":
        """Return the histogram of the same values times 2^power."""
        factor = 2.0**power
        return Histogram(self.low * factor, self.high * factor, self.reach * factor, self.counts.copy())

    @property
    def centers(self) -> NDArray[np.float64]:
        """Return the center of each bin."""
        width = 2 * self.reach / BINS
        return np.asarray((np.arange(BINS) - _HALF + 0.5) * width, np.float64)

    def clipped(self, kept: Range) -> float:
        """Return the share of values outside a range, 0..1; values in the bin of either end count as inside."""
        total = self.counts.sum()
        half_a_bin = self.reach / BINS
        below = (self.centers + half_a_bin <= kept.low) & (self.low < kept.low)
        above = (self.centers - half_a_bin >= kept.high) & (self.high > kept.high)
        return float(self.counts[below | above].sum() / total) if total else 0.0


def percentile(seen: Histogram, share: float = 1e-5) -> Range:
    """Return the range of the observed values without a `share` of them, half at each end, to within a bin.

    On photographs outside the calibration set, the logits of trained xxs had 31.5 dB SQNR with these ranges, 30.9 dB
    with each tensor's range of least squared error, and 28.7 dB with the full observed ranges (docs/int8.md).
    """
    total = seen.counts.sum()
    if total == 0:
        return Range(0.0, 0.0)
    below = np.cumsum(seen.counts) / total
    first = int(np.searchsorted(below, share / 2, side="right"))
    last = int(np.searchsorted(below, 1 - share / 2))
    half_a_bin = seen.reach / BINS
    low, high = seen.centers[first] - half_a_bin, seen.centers[last] + half_a_bin
    return Range(min(0.0, max(low, seen.low)), max(0.0, min(high, seen.high)))


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
                where = graph.path(n) or n.name
                hint = "these weights cannot compute such an image: check both"
                raise ToolError(f"{where} gives NaN or infinity on a calibration image", hint) from error
        return value


def observe(module: fx.GraphModule, names: Iterable[str], batches: Iterable[Tensor]) -> Mapping[str, Histogram]:
    """Return histograms of the named tensors over batches of normalized images (B, 3, H, W).

    Raises:
        ToolError: a tensor is NaN or infinite.
    """
    wanted, lock = list(names), Lock()
    found = {name: Histogram() for name in wanted}

    def add(images: Tensor) -> None:
        observer = Observer(module, wanted)
        observer.run(images)
        with lock:
            for name, histogram in observer.histograms.items():
                found[name].merge(histogram)

    each_batch(add, batches)
    return found
