"""Random numbers that are the same on every machine and with every version of numpy.

numpy guarantees that the raw stream of a bit generator never changes, but guarantees it for no distribution. So the
distributions are computed here from the raw stream, with integers and exactly rounded operations.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
"""A float32 array. numpy's annotations call its product with a Python number float64, but it stays float32."""
_T = TypeVar("_T")

_STEPS = 2.0**20
# Of the sum of four uniform 16-bit integers: the mean, and 1 divided by the standard deviation.
_MEAN = 2 * 65535
_SCALE = 1 / math.sqrt(4 * (65536**2 - 1) / 12)


class Stream:
    """A stream of random numbers: equal keys give equal streams, different keys independent ones."""

    def __init__(self, *key: str | int) -> None:
        digest = hashlib.sha256("/".join(str(part) for part in key).encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "little"))

    def uniform(self, low: float, high: float) -> float:
        """Return a number from [low, high)."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def whole(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included."""
        return low + (int(self._bits.random_raw()) >> 11) % (high - low + 1)

    def chance(self, probability: float) -> bool:
        """Return true with this probability."""
        return self.uniform(0, 1) < probability

    def choice(self, items: Sequence[_T]) -> _T:
        """Return one of the items, all with equal probability."""
        return items[self.whole(0, len(items) - 1)]

    def noise(self, *shape: int) -> Field:
        """Return independent float32 numbers of mean 0 and standard deviation 1.

        They are sums of four uniform numbers, so nearly normal.
        """
        raw: NDArray[np.uint64] = self._bits.random_raw(math.prod(shape))
        parts = raw.view(np.uint16).reshape(*shape, 4).astype(np.int32)
        total = parts[..., 0] + parts[..., 1] + parts[..., 2] + parts[..., 3]
        scaled: Field = (total - _MEAN).astype(np.float32) * _SCALE
        return scaled


def on_grid(value: float) -> float:
    """Return the nearest multiple of 2**-20.

    Mathematical libraries differ in the last bit of a cosine or a power; after this rounding they agree.
    """
    return round(value * _STEPS) / _STEPS


def direction(turns: float) -> tuple[float, float]:
    """Return cosine and sine of an angle in turns, rounded by `on_grid`."""
    return on_grid(math.cos(2 * math.pi * turns)), on_grid(math.sin(2 * math.pi * turns))
