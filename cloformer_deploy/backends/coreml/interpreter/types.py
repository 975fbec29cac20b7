"""The types of a MIL program (MIL.proto: DataType, ValueType) and their equivalents in numpy and torch."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike

from cloformer_deploy.backends.package_files import EXPORT_AGAIN, shown
from cloformer_deploy.errors import BundleError

UNKNOWN_SIZE = -1
"""The size that stands for a flexible dimension, one whose size is not known before the program runs."""

MAX_ELEMENTS = 2**28
"""The most elements of one tensor; the largest activation of a CloFormer at 1024 x 1024 has a sixteenth of this."""

MAX_RANK = 8
"""The highest rank of a tensor. Core ML's values have at most 5 axes; its look-up tables have 2 more."""


@dataclass(frozen=True)
class DType:
    """The element type of a tensor.

    Attributes:
        name: for example "float32" or "int4"; used in messages.
        numpy: the numpy type of decoded constants; an integer of fewer than 8 bits takes one byte.
        bits: the size of one element in a file; 0 for strings.
        blob: the type's number in weight files (BlobDataType in MILBlob); 0 if weight files cannot hold it.
        field: the field of MIL_pb2.TensorValue with the immediate values; the field "bytes" can hold any numbers.
    """

    name: str
    numpy: DTypeLike
    bits: int
    blob: int
    field: str

    @property
    def signed(self) -> bool:
        """True if elements are two's complement integers."""
        return self.name.startswith("int")


# The keys are the numbers of MIL.proto's DataType. The format also has bfloat16 (13) and two float8 types (40, 41),
# but no Core ML operation uses them.
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
"""The torch type of each element type that a computed tensor can have, by name."""


@dataclass(frozen=True)
class TensorType:
    """The declared type of a tensor.

    Attributes:
        dtype: the element type.
        shape: the size of each axis; () for a scalar, `UNKNOWN_SIZE` for a flexible dimension.
    """

    dtype: DType
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The number of elements; meaningful only if no dimension is flexible."""
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"


@dataclass(frozen=True)
class OtherType:
    """The declared type of a value that is not a tensor.

    Attributes:
        kind: "list", "dictionary", "tuple" or "state".
        element: the name of the item type of a list or of the key type of a dictionary; empty for other kinds.
    """

    kind: str
    element: str

    def __str__(self) -> str:
        return f"{self.kind} of {self.element}"


def tensor_type(proto: Any) -> TensorType:
    """Convert a MIL_pb2.TensorType.

    Raises:
        BundleError: the element type is unknown, the rank differs from the number of dimensions, or the tensor
            is larger than `MAX_RANK` or `MAX_ELEMENTS` allow.
    """
    if proto.dataType not in DTYPES:
        raise BundleError(f"a tensor has the unknown data type number {proto.dataType}", EXPORT_AGAIN)
    shape = tuple(
        dimension.constant.size if dimension.WhichOneof("dimension") == "constant" else UNKNOWN_SIZE
        for dimension in proto.dimensions
    )
    if proto.rank != len(shape) or len(shape) > MAX_RANK:
        raise BundleError(
            f"a tensor is declared with rank {proto.rank} and {len(shape)} dimensions; "
            f"both must be equal, and at most {MAX_RANK}",
            EXPORT_AGAIN,
        )
    kind = TensorType(DTYPES[proto.dataType], shape)
    if max(kind.elements, *shape, 0) > MAX_ELEMENTS:
        message = f"a tensor is declared as {shown(kind)}, which has more than {MAX_ELEMENTS} elements"
        raise BundleError(message, EXPORT_AGAIN)
    return kind


def value_type(proto: Any) -> TensorType | OtherType:
    """Convert a MIL_pb2.ValueType.

    Raises:
        BundleError: no type is given, or it contains an invalid tensor type (see `tensor_type`).
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
