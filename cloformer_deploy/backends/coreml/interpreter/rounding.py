"""Bounds for the rounding error of compressed weights, compared with the float weights they were made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.coreml.interpreter.ops.compression import spread

_MAX_ERROR_RATIO = 1.1
"""The highest plausible error of a palette, relative to that of a palette of evenly spaced entries (root mean square).

A palette with a larger error was not made for the tensor.
"""


@dataclass(frozen=True)
class Compressed:
    """The stored form of a compressed constant.

    Attributes:
        operation: `constexpr_affine_dequantize`, `constexpr_blockwise_shift_scale` or `constexpr_lut_to_dense`.
        arguments: the decoded arguments of that operation, by name.
    """

    operation: str
    arguments: Mapping[str, Any]

    def slack(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the largest rounding error that this form of storage explains, for each weight.

        For integers it is half a quantization step, plus the error that rounding the scale to its type causes. For a
        palette it is the distance to the nearest entry, or 0 if the palette was not made for these weights.

        Args:
            weights: the float weights, of the constant's shape.

        Returns:
            An array of the same shape.
        """
        if self.operation == "constexpr_lut_to_dense":
            return _palette_slack(self.arguments["lut"], weights)
        scale = self.arguments["scale"]
        if self.operation == "constexpr_affine_dequantize":
            shape = [1] * weights.ndim
            shape[self.arguments["axis"]] = -1
            scale = scale.reshape(shape)
        scale = np.abs(spread(scale, weights.shape))
        steps = scale.astype(np.float64)
        integers = np.divide(np.abs(weights), steps, out=np.zeros_like(steps), where=steps > 0)
        slack: NDArray[np.float64] = steps / 2 + integers * np.spacing(scale).astype(np.float64) / 2
        return slack


def _palette_slack(table: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each weight to the nearest entry, or zeros if the palette was not made for the weights."""
    entries = np.unique(table).astype(np.float64)
    bounded = np.concatenate([[-np.inf], entries, [np.inf]])
    above = np.searchsorted(entries, weights)
    nearest = np.minimum(weights - bounded[above], bounded[above + 1] - weights)
    # The table of iOS 16 is a vector; the tables of iOS 18 have their entries along the second-to-last axis.
    size = len(table) if table.ndim == 1 else table.shape[-2]
    # The root mean square error of uniform quantization is its step divided by sqrt(12).
    even_error = np.ptp(weights) / max(size - 1, 1) / np.sqrt(12)
    fits = np.sqrt(np.mean(nearest**2)) <= _MAX_ERROR_RATIO * even_error
    return nearest if fits else np.zeros_like(nearest)
