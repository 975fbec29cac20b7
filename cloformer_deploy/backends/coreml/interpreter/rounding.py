"""How far weights stored in few bits may be from the float weights they were made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.coreml.interpreter.ops.compression import spread

_WORSE_THAN_EVEN = 1.1
"""A palette whose root mean square error is this many times that of evenly spaced entries was not made for a tensor."""


@dataclass(frozen=True)
class Compressed:
    """How a constant is stored.

    Attributes:
        operation: `constexpr_affine_dequantize`, `constexpr_blockwise_shift_scale` or `constexpr_lut_to_dense`.
        arguments: its own, decoded.
    """

    operation: str
    arguments: Mapping[str, Any]

    def slack(self, want: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance from float weights that storing them so explains, value by value.

        Half a step for integers, and what the rounding of the scale itself adds; for a palette the distance to its
        nearest entry.

        Args:
            want: the float weights, of the constant's shape.
        """
        if self.operation == "constexpr_lut_to_dense":
            return _palette_slack(self.arguments["lut"], want)
        scale = self.arguments["scale"]
        if self.operation == "constexpr_affine_dequantize":
            shape = [1] * want.ndim
            shape[self.arguments["axis"]] = -1
            scale = scale.reshape(shape)
        scale = np.abs(spread(scale, want.shape))
        steps = scale.astype(np.float64)
        integers = np.divide(np.abs(want), steps, out=np.zeros_like(steps), where=steps > 0)
        slack: NDArray[np.float64] = steps / 2 + integers * np.spacing(scale).astype(np.float64) / 2
        return slack


def _palette_slack(table: NDArray[Any], want: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 where the entries do not fit the weights at all."""
    entries = np.unique(table).astype(np.float64)
    bounded = np.concatenate([[-np.inf], entries, [np.inf]])
    above = np.searchsorted(entries, want)
    nearest = np.minimum(want - bounded[above], bounded[above + 1] - want)
    # One table of iOS 16 is a vector; those of iOS 18 have their entries along the last axis but one.
    size = len(table) if table.ndim == 1 else table.shape[-2]
    even = np.ptp(want) / max(size - 1, 1) / np.sqrt(12)
    fits = np.sqrt(np.mean(nearest**2)) <= _WORSE_THAN_EVEN * even
    return nearest if fits else np.zeros_like(nearest)
