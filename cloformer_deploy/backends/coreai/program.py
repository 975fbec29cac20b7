"""The program inside an asset, as `api.read` gives it: plain records, without any of Apple's packages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

CONSTANT = "constant"
"""Type of operations that hold a value."""


@dataclass(frozen=True)
class Value:
    """A tensor of a program: its name, shape, and dtype (float16, float32, int8, uint6, bool, ...)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation of a program.

    Attributes:
        type: in the dialect, without its prefixes; of a composite operation the composite's name.
        inputs: names of the tensors that it reads.
        outputs: the tensors that it makes, named by type and number, such as conv2d_3 or split_2_1.
        constant: its value (of `CONSTANT` only), as stored: integers of fewer than 8 bits are packed bytes.
    """

    type: str
    inputs: tuple[str, ...]
    outputs: tuple[Value, ...]
    constant: NDArray[Any] | None


@dataclass(frozen=True, eq=False)
class Program:
    """The function of an asset.

    Attributes:
        inputs: by the names of the interface.
        outputs: the same.
        results: name in the program of each output, in their order.
        operations: in order.
        metadata: the file's own key-value pairs that are text.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    results: tuple[str, ...]
    operations: tuple[Operation, ...]
    metadata: Mapping[str, str]
