"""Whether the weights in a file are PyTorch's, tensor by tensor.

The outputs alone do not tell: 512 zeroed bytes cost CloFormer-xxs in float16 3 dB of 61.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.coreml.interpreter.files import shown
from cloformer_deploy.backends.coreml.interpreter.interpreter import Program

FLOAT32_TOLERANCE = 1e-6
"""Relative: coremltools multiplies constants together, and rounds the product once more than PyTorch."""

FLOAT16_SUBNORMAL_STEP = 2.0**-24
"""The distance of neighbouring float16 numbers below 2**-14."""

# What coremltools appends to a parameter's name on the way to what is stored.
_SUFFIXES = re.compile(r"(_to_fp16|_cast_fp16|_quantized|_palettized)*")


@dataclass(frozen=True, order=True)
class _Difference:
    """How a constant differs from what is expected: elements beyond the tolerance, the largest difference."""

    count: int
    largest: float
    constant: str


def compare_weights(program: Program, expected: Mapping[str, NDArray[Any]]) -> list[str]:
    """Find every expected tensor among the program's constants, and say which are not there.

    A tensor is compared with the constant that has its name ("layers.0.x" is "p_layers_0_x" to coremltools,
    perhaps with "_to_fp16"). Without one, any constant of its shape may hold its values: coremltools gives
    new names to what it multiplied together. Equal tensors may share a constant, for it stores equal ones once.
    One of ones or zeros alone may be missing, for it drops products with one and sums with zero. Shapes are
    compared without axes of size 1.

    Args:
        program: the loaded program.
        expected: float tensors by their names in PyTorch, in PyTorch's layout; batch norms and constant
            scales folded in already.

    Returns:
        A sentence for each expected tensor that is missing, or differs from its constant (for one without a
        name: from the nearest that is no other tensor's). In float32 the tolerance is `FLOAT32_TOLERANCE` of
        the tensor's largest absolute value; in float16 half a unit in the last place of each value, and
        `FLOAT16_SUBNORMAL_STEP`. Weights stored in few bits may be off by `Compressed.slack` besides. An empty list
        says that all tensors are there.
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
            # It does not belong to this tensor if it is another's.
            nearest = _nearest(program, tensor, _left_over(program, candidates, expected))
        if nearest and nearest.count:
            failures.append(
                f"{name}: {nearest.count} of {np.size(tensor)} values differ, "
                f"max |difference| {nearest.largest:.3g} (constant {shown(nearest.constant)[1:-1]})"
            )
        elif nearest is None and not _is_without_effect(tensor):
            failures.append(f"{name}: no constant of shape {list(np.shape(tensor))} is left in the file for it")
    return failures


def _left_over(program: Program, constants: Iterable[str], expected: Mapping[str, NDArray[Any]]) -> list[str]:
    """Those of the constants that no expected tensor accounts for."""
    return [
        constant
        for constant in constants
        if not any(
            _shape(tensor) == _shape(program.constants[constant]) and not _compare(program, tensor, constant).count
            for tensor in expected.values()
        )
    ]


def _is_without_effect(tensor: NDArray[Any]) -> bool:
    return bool(np.all(tensor == 0) or np.all(tensor == 1))


def _is_named(constant: str, name: str) -> bool:
    own = "p_" + name.replace(".", "_")
    return constant.startswith(own) and _SUFFIXES.fullmatch(constant, len(own)) is not None


def _shape(value: NDArray[Any]) -> tuple[int, ...]:
    return tuple(size for size in np.shape(value) if size != 1)


def _nearest(program: Program, tensor: NDArray[Any], constants: Iterable[str]) -> _Difference | None:
    return min((_compare(program, tensor, constant) for constant in constants), default=None)


def _compare(program: Program, tensor: NDArray[Any], constant: str) -> _Difference:
    value = program.constants[constant]
    want = np.asarray(tensor, np.float64).reshape(value.shape)
    # What float16 cannot hold has a tolerance that is not a number, and fails.
    with np.errstate(over="ignore", invalid="ignore"):
        tolerance = _tolerance(np.abs(want), value.dtype)
        if constant in program.plan.compressed:
            slack = program.plan.compressed[constant].slack(want)
            # The scale or the palette is rounded to the type, and what is computed from it once more.
            tolerance = slack + 2 * _tolerance(np.abs(want) + slack, value.dtype)
        difference = np.abs(value.astype(np.float64) - want)
        bad = ~(difference <= tolerance)
    # Not a number sorts as the worst.
    largest = float(np.where(np.isnan(difference), np.inf, difference).max(initial=0.0))
    return _Difference(int(bad.sum()), largest, constant)


def _tolerance(size: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Of values of these magnitudes, stored as a float type."""
    if dtype != np.float16:
        return np.full_like(size, FLOAT32_TOLERANCE * size.max(initial=0.0))
    half_unit = np.spacing(size.astype(np.float16)).astype(np.float64) / 2
    tolerance: NDArray[np.float64] = half_unit + FLOAT16_SUBNORMAL_STEP + FLOAT32_TOLERANCE * size
    return tolerance
