"""The types a MIL program declares (MIL.proto: DataType, ValueType), and what they are in numpy and torch."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike

from cloformer_deploy.backends.coreml.interpreter.files import EXPORT_AGAIN, shown
from cloformer_deploy.errors import BundleError

UNKNOWN_SIZE = -1
"""The size of a flexible dimension."""

MAX_ELEMENTS = 2**28
"""In one tensor; the largest activation of a CloFormer at 1024 x 1024 has a sixteenth of this."""

MAX_RANK = 8
"""Of a tensor; Core ML's values have at most 5 axes, its look-up tables 2 more."""


@dataclass(frozen=True)
class DType:
    """An element type.

    Attributes:
        name: "float32", "int4"; what messages show.
        numpy: what decoded constants are held in; sub-byte integers take one byte each.
        bits: in a file.
        blob: its number in weight files (BlobDataType in MILBlob), 0 where it cannot be in one.
        field: of TensorValue, where immediate values are; "bytes" can hold any of them.
    """

    name: str
    numpy: DTypeLike
    bits: int
    blob: int
    field: str

    @property
    def signed(self) -> bool:
        """Whether packed elements are two's complement."""
        return self.name.startswith("int")


# By number in MIL.proto. bfloat16 (13) and the two float8 (40, 41) are in the format but not in Core ML's operations.
DTYPES: dict[int, DType] = {
    1: DType("bool", np.bool_, 8, 0, "bools"),
    2: DType("string", np.object_, 0, 0, "strings"),
    10: DType("float16", np.float16, 16, 1, "bytes"),
    11: DType("float32", np.float32, 32, 2, "floats"),
    12: DType("float64", np.float64, 64, 0, "doubles"),
    21: DType("int8", np.int8, 8, 4, "bytes"),
    22: DType("int16", np.int16, 16, 6, "ints"),
    23: DType("int32", np.int32, 32, 14, "ints"),
    24: DType("int64", np.int64, 64, 0, "longInts"),
    25: DType("int4", np.int8, 4, 8, "bytes"),
    31: DType("uint8", np.uint8, 8, 3, "bytes"),
    32: DType("uint16", np.uint16, 16, 7, "ints"),
    33: DType("uint32", np.uint32, 32, 15, "bytes"),
    35: DType("uint4", np.uint8, 4, 11, "bytes"),
    36: DType("uint2", np.uint8, 2, 10, "bytes"),
    37: DType("uint1", np.uint8, 1, 9, "bytes"),
    38: DType("uint6", np.uint8, 6, 13, "bytes"),
    39: DType("uint3", np.uint8, 3, 12, "bytes"),
}

TORCH_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16")
}
"""The element types that a value at run time can have."""


@dataclass(frozen=True)
class TensorType:
    """A tensor's declared element type and shape; rank 0 is a scalar, `UNKNOWN_SIZE` a flexible dimension."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many the tensor has."""
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"


@dataclass(frozen=True)
class OtherType:
    """A list, dictionary, tuple or state: known by its kind ("list") and the element type of its (first) part."""

    kind: str
    element: str

    def __str__(self) -> str:
        return f"{self.kind} of {self.element}"


def tensor_type(proto: Any) -> TensorType:
    """The `TensorType` of a MIL_pb2.TensorType.

    Raises:
        BundleError: the element type is unknown, or the tensor has a size no CloFormer has.
    """
    if proto.dataType not in DTYPES:
        raise BundleError(f"a tensor has the unknown data type number {proto.dataType}", EXPORT_AGAIN)
    shape = tuple(
        dimension.constant.size if dimension.WhichOneof("dimension") == "constant" else UNKNOWN_SIZE
        for dimension in proto.dimensions
    )
    if proto.rank != len(shape) or len(shape) > MAX_RANK:
        message = f"a tensor is declared with rank {proto.rank} and {len(shape)} dimensions; {MAX_RANK} are the most"
        raise BundleError(message, EXPORT_AGAIN)
    kind = TensorType(DTYPES[proto.dataType], shape)
    if max(kind.elements, *shape, 0) > MAX_ELEMENTS:
        raise BundleError(f"a tensor is declared as {shown(kind)}, more than {MAX_ELEMENTS} elements", EXPORT_AGAIN)
    return kind


def value_type(proto: Any) -> TensorType | OtherType:
    """The type of a MIL_pb2.ValueType.

    Raises:
        BundleError: no type is given, or it is not one of the format's.
    """
    kind = proto.WhichOneof("type")
    if kind == "tensorType":
        return tensor_type(proto.tensorType)
    if kind == "listType":
        return OtherType("list", _element(proto.listType.type))
    if kind == "dictionaryType":
        return OtherType("dictionary", _element(proto.dictionaryType.keyType))
    if kind is None:
        raise BundleError("a value has no type", EXPORT_AGAIN)
    return OtherType(kind.removesuffix("Type"), "")


def _element(proto: Any) -> str:
    kind = value_type(proto)
    return kind.dtype.name if isinstance(kind, TensorType) else kind.kind
