"""Compare the weights in a file with those of the PyTorch model, tensor by tensor.

Comparing outputs is not enough to find damaged weights: 512 zeroed bytes reduce the SQNR of CloFormer-xxs in float16
by only 3 dB, from 61 dB.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.coreml.interpreter.interpreter import Program
from cloformer_deploy.backends.package_files import shown

FLOAT32_TOLERANCE = 1e-6
"""The tolerance relative to a tensor's largest absolute value.

It is not zero because coremltools multiplies constants together, and rounds the product once more than PyTorch.
"""

FLOAT16_SUBNORMAL_STEP = 2.0**-24
"""The distance between neighboring float16 numbers below 2**-14."""

# coremltools appends these suffixes to a parameter's name when it converts the parameter.
_SUFFIXES = re.compile(r"(_to_fp16|_cast_fp16|_quantized|_palettized)*")


@dataclass(frozen=True, order=True)
class _Difference:
    """The difference between a constant and an expected tensor; differences are ordered from the smallest.

    Attributes:
        count: the number of elements beyond the tolerance.
        largest: the largest absolute difference.
        constant: the name of the constant.
    """

    count: int
    largest: float
    constant: str


def compare_weights(program: Program, expected: Mapping[str, NDArray[Any]]) -> list[str]:
    """Find each expected tensor among the program's constants, and report those that are missing or differ.

    A tensor is compared with the constant of its name: coremltools calls the parameter "layers.0.x" "p_layers_0_x",
    and may append a suffix such as "_to_fp16". If there is no such constant, any constant of the tensor's shape may
    hold its values, because coremltools gives new names to constants that it multiplies together. Equal tensors may
    share a constant, because coremltools stores equal constants once. A tensor of only ones or only zeros may be
    missing, because coremltools removes multiplications by one and additions of zero. Shapes are compared without
    axes of size 1.

    The tolerance of a float32 constant is `FLOAT32_TOLERANCE` times the tensor's largest absolute value. That of a
    float16 constant is, for each value, half a unit in the last place plus `FLOAT16_SUBNORMAL_STEP` plus
    `FLOAT32_TOLERANCE` times the value. Compressed weights may also differ by `Compressed.slack`.

    Args:
        program: the loaded program.
        expected: the float tensors of the PyTorch model by name, in PyTorch's layout, after batch norms and constant
            scales were folded.

    Returns:
        A message for each expected tensor that is missing or differs. A tensor without a constant of its name is
        reported with the nearest constant that does not hold another tensor. The list is empty if all are present.
    """
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for constant, value in program.constants.items():
        by_shape.setdefault(_shape(value), []).append(constant)
    failures = []
    for name, tensor in expected.items():
        candidates = by_shape.get(_shape(tensor), [])
        named = [constant for constant in candidates if _is_named(constant, name)]
        nearest = _nearest(program, tensor, named or candidates)
        if nearest and nearest.count and not named:
            # The nearest constant may hold another expected tensor: search again among the unmatched ones.
            nearest = _nearest(program, tensor, _unmatched(program, candidates, expected))
        if nearest and nearest.count:
            failures.append(
                f"{name}: {nearest.count} of {np.size(tensor)} values differ, "
                f"max |difference| {nearest.largest:.3g} (constant {shown(nearest.constant)[1:-1]})"
            )
        elif nearest is None and not _is_without_effect(tensor):
            shape = list(np.shape(tensor))
            failures.append(f"{name}: missing; the file has no constant of shape {shape} that holds no other tensor")
    return failures


def _unmatched(program: Program, constants: Iterable[str], expected: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return those of the constants that do not hold any expected tensor."""
    return [
        constant
        for constant in constants
        if not any(
            _shape(tensor) == _shape(program.constants[constant]) and not _compare(program, tensor, constant).count
            for tensor in expected.values()
        )
    ]


def _is_without_effect(tensor: NDArray[Any]) -> bool:
    """Return True for a tensor of only zeros or only ones, which coremltools may remove."""
    return bool(np.all(tensor == 0) or np.all(tensor == 1))


def _is_named(constant: str, name: str) -> bool:
    """Return True if coremltools uses the constant's name for the parameter `name`."""
    stored_name = "p_" + name.replace(".", "_")
    return constant.startswith(stored_name) and _SUFFIXES.fullmatch(constant, len(stored_name)) is not None


def _shape(value: NDArray[Any]) -> tuple[int, ...]:
    """Return the shape without axes of size 1."""
    return tuple(size for size in np.shape(value) if size != 1)


def _nearest(program: Program, tensor: NDArray[Any], constants: Iterable[str]) -> _Difference | None:
    return min((_compare(program, tensor, constant) for constant in constants), default=None)


def _compare(program: Program, tensor: NDArray[Any], constant: str) -> _Difference:
    value = program.constants[constant]
    weights = np.asarray(tensor, np.float64).reshape(value.shape)
    # The tolerance of a value beyond the range of float16 is NaN, so that the value counts as different.
    with np.errstate(over="ignore", invalid="ignore"):
        tolerance = _tolerance(np.abs(weights), value.dtype)
        if constant in program.plan.compressed:
            slack = program.plan.compressed[constant].slack(weights)
            # There are two roundings to the float type: of the scale or palette, and of the decompressed weight.
            tolerance = slack + 2 * _tolerance(np.abs(weights) + slack, value.dtype)
        difference = np.abs(value.astype(np.float64) - weights)
        differs = ~(difference <= tolerance)
    # NaN is replaced by infinity, so that it sorts as the largest difference.
    largest = float(np.where(np.isnan(difference), np.inf, difference).max(initial=0.0))
    return _Difference(int(differs.sum()), largest, constant)


def _tolerance(size: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Return the tolerance of each value.

    Args:
        size: the absolute values.
        dtype: the float type they are stored in.
    """
    if dtype != np.float16:
        return np.full_like(size, FLOAT32_TOLERANCE * size.max(initial=0.0))
    half_unit = np.spacing(size.astype(np.float16)).astype(np.float64) / 2
    tolerance: NDArray[np.float64] = half_unit + FLOAT16_SUBNORMAL_STEP + FLOAT32_TOLERANCE * size
    return tolerance
