"""Random numbers that are the same on every machine and with every numpy.

numpy promises that a bit generator's raw stream never changes, and promises it of no distribution made
from the stream; so distributions are made here, of whole numbers and exactly rounded operations.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
"""float32 always; numpy's annotations say float64 of its product with a Python number, which in fact keeps it."""
_T = TypeVar("_T")

_STEPS = 2.0**20
# The sum of four uniform 16-bit numbers: its mean, and one over its standard deviation.
_MEAN = 2 * 65535
_SCALE = 1 / math.sqrt(4 * (65536**2 - 1) / 12)


class Stream:
    """Random numbers drawn one after the other; equal keys give equal streams, others unrelated ones."""

    def __init__(self, *key: str | int) -> None:
        digest = hashlib.sha256("/".join(str(part) for part in key).encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "little"))

    def uniform(self, low: float, high: float) -> float:
        """A number from [low, high)."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + (int(self._bits.random_raw()) >> 11) % (high - low + 1)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform(0, 1) < probability

    def choice(self, items: Sequence[_T]) -> _T:
        """One of the items."""
        return items[self.whole(0, len(items) - 1)]

    def noise(self, *shape: int) -> Field:
        """Independent float32 numbers of mean 0 and deviation 1, nearly normal (sums of four uniform ones)."""
        raw: NDArray[np.uint64] = self._bits.random_raw(math.prod(shape))
        parts = raw.view(np.uint16).reshape(*shape, 4).astype(np.int32)
        total = parts[..., 0] + parts[..., 1] + parts[..., 2] + parts[..., 3]
        scaled: Field = (total - _MEAN).astype(np.float32) * _SCALE
        return scaled


def on_grid(value: float) -> float:
    """The nearest multiple of 2**-20: two machines' libraries differ in the last bit of a cosine or power, not here."""
    return round(value * _STEPS) / _STEPS


def direction(turns: float) -> tuple[float, float]:
    """Cosine and sine of an angle in turns, on the grid."""
    return on_grid(math.cos(2 * math.pi * turns)), on_grid(math.sin(2 * math.pi * turns))
