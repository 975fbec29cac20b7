"""Compare the weights in an asset with those of the lowered PyTorch model, tensor by tensor."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.coreai.constants import Dense, dense
from cloformer_deploy.backends.coreai.program import Program

FLOAT32_TOLERANCE = 1e-6
"""Tolerance relative to a tensor's largest absolute value."""
_ULP, _SUBNORMAL_STEP = 2.0**-11, 2.0**-24
"""Half a unit in the last place of float16, relative, and the distance between its numbers below 2**-14."""


def weight_differences(program: Program, expected: Mapping[str, NDArray[np.float32]]) -> list[str]:
    """Find each expected tensor among the constants of its shape; the converter keeps no names.

    Shapes are compared without axes of size 1. A tensor of only ones or only zeros may be missing: operations that it
    does not change are left out. Values may differ by their rounding: to float16, to a scale's grid, or to the nearest
    value of a table.

    Args:
        program: of the asset.
        expected: the float tensors of the lowered model by name.

    Returns:
        A message for each tensor that is missing or differs.

    Raises:
        BundleError: a constant cannot be decompressed.
    """
    by_shape: dict[tuple[int, ...], list[Dense]] = {}
    for constant in dense(program):
        by_shape.setdefault(_shape(constant.values), []).append(constant)
    return list(_failures(by_shape, expected))


def _failures(
    by_shape: Mapping[tuple[int, ...], list[Dense]], expected: Mapping[str, NDArray[np.float32]]
) -> Iterator[str]:
    for name, tensor in expected.items():
        found: list[int] = [_differing(tensor, constant) for constant in by_shape.get(_shape(tensor), [])]
        if not found and not (np.all(tensor == 0) or np.all(tensor == 1)):
            yield f"{name}: missing; the file has no constant of shape {list(tensor.shape)}"
        elif found and min(found) > 0:
            yield f"{name}: {min(found)} of {tensor.size} values differ from those of the nearest constant"


def _shape(values: NDArray[Any]) -> tuple[int, ...]:
    return tuple(size for size in values.shape if size != 1)


def _differing(tensor: NDArray[np.float32], constant: Dense) -> int:
    """Return how many values of a constant are not those of a tensor, rounded as the constant is."""
    wanted = tensor.astype(np.float64).reshape(constant.values.shape)
    dtype = constant.values.dtype
    slack = _rounding(np.abs(wanted), dtype)
    if constant.compressed is not None:
        slack = constant.compressed.slack(wanted)
        # Scales and tables are rounded to the float type too, which may also change the entry that is nearest.
        slack = slack + 3 * _rounding(np.abs(wanted) + slack, dtype)
    with np.errstate(invalid="ignore"):
        return int((~(np.abs(constant.values.astype(np.float64) - wanted) <= slack)).sum())


def _rounding(size: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Return how far numbers of these absolute values may be rounded in a float type."""
    if dtype == np.float16:
        return size * (_ULP + FLOAT32_TOLERANCE) + _SUBNORMAL_STEP
    return np.full_like(size, FLOAT32_TOLERANCE * size.max(initial=0.0))
