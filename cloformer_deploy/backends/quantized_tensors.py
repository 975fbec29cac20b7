"""Describe quantized tensors by the scales and zero points of a file, which may be foreign and is not trusted."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.description import QuantizedTensor

_INTEGER = re.compile(r"(u?)int([0-9]{1,2})")


def clipped_shares(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Return the clipped share of each tensor's values (0..1), by its name, from a file's parsed metadata."""
    told = metadata.get("clipped")
    if not isinstance(told, dict):
        return {}
    return {name: float(share) for name, share in told.items() if type(share) in (int, float) and 0 <= share <= 1}


def on_grid(
    name: str,
    dtype: str,
    scale: NDArray[np.float64] | None,
    zero_point: NDArray[np.float64] | None,
    *,
    constant: bool,
    clipped: float | None = None,
) -> QuantizedTensor:
    """Describe a tensor whose values are scale * (integer - zero point).

    Args:
        name: in the file.
        dtype: of the integers; the range of other types is not known.
        scale: one, or one for each channel, in any shape; None where the file does not tell.
        zero_point: the same, or one for all channels; None is 0.
        constant: the integers are stored in the file.
        clipped: see `QuantizedTensor`.
    """
    scales = np.zeros(0) if scale is None else scale.ravel()
    zeros = np.zeros(1) if zero_point is None else zero_point.ravel()
    if scales.size == 0 or zeros.size not in (1, scales.size):
        return QuantizedTensor(name, dtype, constant, None, 0, None, None, None, clipped)
    low, high = _finite(scales.min()), _finite(scales.max())
    both = None if low is None or high is None else (low, high)
    zero = int(zeros[0]) if np.isfinite(zeros[0]) and (zeros == zeros[0]).all() else None
    bounds: tuple[float | None, float | None] = (None, None)
    integer = _INTEGER.fullmatch(dtype)
    if integer is not None:
        bits = int(integer[2])
        first = 0.0 if integer[1] else -(2.0 ** (bits - 1))
        with np.errstate(all="ignore"):
            ends = np.stack([(limit - zeros) * scales for limit in (first, first + 2.0**bits - 1)])
            bounds = (_finite(ends.min()), _finite(ends.max()))
    return QuantizedTensor(name, dtype, constant, both, scales.size, zero, *bounds, clipped)


def in_palette(name: str, table: NDArray[np.float64] | None, values: int) -> QuantizedTensor:
    """Describe a constant that is looked up in a table (or several) of so many values."""
    dtype = f"uint{max(values - 1, 1).bit_length()}"
    low, high = (None, None) if table is None or table.size == 0 else (_finite(table.min()), _finite(table.max()))
    return QuantizedTensor(name, dtype, True, None, 0, None, low, high, None)


def _finite(value: np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None
