"""The constants of a program as numbers: floats as they are stored, compressed ones decompressed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.coreai.program import CONSTANT, Operation, Program
from cloformer_deploy.backends.coreml.interpreter.constants import unpack_bits
from cloformer_deploy.backends.coreml.interpreter.rounding import Compressed
from cloformer_deploy.errors import BundleError

SCALED, LOOKED_UP = "blockwise_shift_scale", "lut_to_dense"
"""Operations that decompress: scale * (integer - zero point) + offset, and a table of values by index."""


@dataclass(frozen=True, eq=False)
class Dense:
    """A float constant.

    Attributes:
        name: in the program; of a compressed one that of what decompresses it.
        values: float16 or float32.
        compressed: the form of a compressed one, in Core ML's terms.
    """

    name: str
    values: NDArray[Any]
    compressed: Compressed | None = None


def stored(program: Program) -> dict[str, NDArray[Any]]:
    """Return the values of constants by name; integers of fewer than 8 bits are unpacked to bytes.

    Raises:
        BundleError: one has another size than its type.
    """
    return {item.outputs[0].name: _unpacked(item) for item in program.operations if item.type == CONSTANT}


def dense(program: Program) -> Iterator[Dense]:
    """Yield the float constants that operations compute with, in order, decompressed.

    Raises:
        BundleError: a compressed one is not in our form: symmetric with a scale for each output channel, or in a table.
    """
    constants = stored(program)
    parts = {name for item in program.operations if item.type in (SCALED, LOOKED_UP) for name in item.inputs}
    for item in program.operations:
        name = item.outputs[0].name
        if item.type == CONSTANT and item.outputs[0].dtype.startswith("float") and name not in parts:
            yield Dense(name, constants[name])
        elif item.type in (SCALED, LOOKED_UP):
            yield _decompressed(item, [constants.get(part) for part in item.inputs])


def _decompressed(item: Operation, given: list[NDArray[Any] | None]) -> Dense:
    name, dtype = item.outputs[0].name, item.outputs[0].dtype
    try:
        integers, table = (np.asarray(part) for part in given[:2])
        if item.type == LOOKED_UP:
            form = Compressed("constexpr_lut_to_dense", {"lut": table.ravel()})
            return Dense(name, table.ravel()[integers].astype(dtype), form)
        zero, offset = (np.asarray(part, np.float64) for part in given[2:4])
        values = (integers - zero) * table.astype(np.float64) + offset
        form = Compressed("constexpr_blockwise_shift_scale", {"scale": table})
        return Dense(name, values.astype(dtype).reshape(item.outputs[0].shape), form)
    except (IndexError, TypeError, ValueError) as error:
        raise BundleError(f"the weights of {name} cannot be decompressed: {error}", "export it again") from error


def _unpacked(item: Operation) -> NDArray[Any]:
    (value,) = item.outputs
    held = np.asarray(item.constant)
    bits = value.dtype.removeprefix("u").removeprefix("int")
    if not bits.isdecimal() or int(bits) >= 8:
        return held
    count = int(np.prod(value.shape))
    try:
        return unpack_bits(held.ravel(), int(bits), count, signed=value.dtype[0] != "u").reshape(value.shape)
    except ValueError as error:
        raise BundleError(f"{value.name}: {error}", "export it again") from error


def numbers(constants: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float64] | None:
    """Return a constant as float64; None where it is none."""
    found = constants.get(name)
    return None if found is None else np.asarray(found, np.float64)
