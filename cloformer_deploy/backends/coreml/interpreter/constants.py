"""Decode the constants of a program: immediate values in the protobuf, and entries of its weight files.

The format of a weight file is "blob storage", version 2 (MILBlob/Blob/StorageFormat.hpp in apple/coremltools). It is
little-endian:

    header, 64 bytes      uint32 number of entries, uint32 version = 2, reserved
    each entry            64-byte aligned: the metadata, then the data
      metadata, 64 bytes  uint32 0xDEADBEEF, uint32 data type, uint64 size of the data in bytes, uint64 offset of
                          the data in the file, uint64 number of unused bits at the end of the data (only for
                          types of fewer than 8 bits), reserved
"""

import struct
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.coreml.interpreter.package import Package
from cloformer_deploy.backends.coreml.interpreter.types import UNKNOWN_SIZE, OtherType, TensorType, value_type
from cloformer_deploy.backends.package_files import EXPORT_AGAIN, shown
from cloformer_deploy.errors import BundleError

Constant: TypeAlias = NDArray[Any] | tuple[str | int | float, ...]
"""A decoded constant: an array for a tensor of numbers, a tuple for strings and lists (of length 1 for one string)."""

ALIGNMENT = 64
"""The alignment of entries and of their data, and the size of the header and of the metadata, in bytes."""

SENTINEL = 0xDEADBEEF
"""The marker at the beginning of each entry's metadata."""

VERSION = 2
"""The version of the weight file format."""

_HEADER = struct.Struct("<II")
_METADATA = struct.Struct("<IIQQQ")


class WeightFile:
    """A weight file in memory.

    Attributes:
        name: the name of the file in messages.
    """

    def __init__(self, name: str, content: bytearray) -> None:
        """Check the header of a weight file.

        Args:
            name: the name of the file in messages.
            content: the whole file; decoded arrays are views of it where possible.

        Raises:
            BundleError: the header is truncated or invalid.
        """
        self.name = name
        self._content = content
        if len(content) < ALIGNMENT:
            self._reject(f"has {len(content)} bytes, fewer than its {ALIGNMENT}-byte header")
        count, version = _HEADER.unpack_from(content)
        if version != VERSION:
            self._reject(f"has the format version {version}, expected {VERSION}")
        if not 1 <= count < len(content) // ALIGNMENT:
            self._reject(f"declares {count} entries, which is impossible in {len(content)} bytes")

    def decode(self, offset: int, kind: TensorType) -> NDArray[Any]:
        """Decode one entry.

        Args:
            offset: the position of the entry's metadata, in bytes.
            kind: the type that the program declares for the tensor.

        Returns:
            The tensor, of the declared shape; see `unpack` for its element type.

        Raises:
            BundleError: there is no entry at that position, or it does not have that type and size.
        """
        entry = f"the entry at byte {offset}"
        if offset % ALIGNMENT or not ALIGNMENT <= offset <= len(self._content) - ALIGNMENT:
            limits = f"entries begin at multiples of {ALIGNMENT}, and the file has {len(self._content)} bytes"
            self._reject(f"cannot have an entry at byte {offset}: {limits}")
        sentinel, blob_type, size, start, unused = _METADATA.unpack_from(self._content, offset)
        if sentinel != SENTINEL:
            self._reject(f"has no entry at byte {offset}: the marker there is {sentinel:#x}, expected {SENTINEL:#x}")
        if blob_type != kind.dtype.blob:
            expected = f"{kind.dtype.blob} ({kind.dtype.name})"
            self._reject(f"has data type {blob_type} in {entry}, expected {expected}")
        if start % ALIGNMENT or start < ALIGNMENT or start + size > len(self._content):
            position = f"{start} to {start + size}"
            self._reject(f"has an invalid data position in {entry}: bytes {position} of {len(self._content)}")
        bits = kind.elements * kind.dtype.bits
        if size * 8 != bits + -bits % 8:
            self._reject(f"has {size} bytes of data in {entry}, expected {(bits + 7) // 8} for {kind}")
        # Exporters for systems before iOS 18 left the field uninitialized; they had no types of fewer than 8 bits.
        if kind.dtype.bits < 8 and unused != size * 8 - bits:
            self._reject(f"has {unused} unused bits in {entry}, expected {size * 8 - bits}")
        return unpack(memoryview(self._content)[start : start + size], kind)

    def _reject(self, problem: str) -> NoReturn:
        raise BundleError(f"the weight file {shown(self.name)} {problem}", EXPORT_AGAIN)


class Decoder:
    """A decoder for the constants of one package; it reads each weight file once, when a constant first needs it."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._files: dict[str, WeightFile] = {}

    def decode(self, value: Any) -> Constant:
        """Decode a MIL_pb2.Value: a tensor, or a list of single values.

        Raises:
            BundleError: the value is malformed, is of a type that is not supported, or refers to a weight file
                that is missing or damaged.
        """
        kind = value_type(value.type)
        storage = value.WhichOneof("value")
        if isinstance(kind, OtherType):
            if kind.kind != "list" or storage != "immediateValue":
                raise BundleError(f"a constant is of type {kind}, which is not supported", EXPORT_AGAIN)
            return self._decode_list(value.immediateValue.list)
        if UNKNOWN_SIZE in kind.shape:
            raise BundleError(f"a constant is declared as {kind}, whose size is not fixed", EXPORT_AGAIN)
        if storage == "blobFileValue":
            return self._file(value.blobFileValue.fileName).decode(value.blobFileValue.offset, kind)
        if storage != "immediateValue":
            raise BundleError(f"a constant of type {kind} has no value", EXPORT_AGAIN)
        return _immediate(value.immediateValue.tensor, kind)

    def _decode_list(self, values: Any) -> Constant:
        items: list[str | int | float] = []
        for value in values.values:
            item = self.decode(value)
            if len(np.ravel(item)) != 1:
                raise BundleError(f"a list constant has an item of {np.size(item)} values, expected 1", EXPORT_AGAIN)
            items.append(item[0] if isinstance(item, tuple) else item.item())
        return tuple(items)

    def _file(self, name: str) -> WeightFile:
        if name not in self._files:
            self._files[name] = WeightFile(name, self._package.read_weights(name))
        return self._files[name]


def _immediate(tensor: Any, kind: TensorType) -> Constant:
    """Decode a MIL_pb2.TensorValue."""
    field = tensor.WhichOneof("value")
    # The field of a tensor without elements is empty, and the protobuf may omit it.
    if field is None and kind.elements == 0:
        field = kind.dtype.field
    if field not in (kind.dtype.field, "bytes"):
        message = f"a constant of type {kind} has its values in the field {shown(field)}, expected {kind.dtype.field!r}"
        raise BundleError(message, EXPORT_AGAIN)
    values = getattr(tensor, field).values
    if field == "bytes":
        bits = kind.elements * kind.dtype.bits
        if kind.dtype.name == "string" or len(values) * 8 != bits + -bits % 8:
            raise BundleError(f"a constant of type {kind} has {len(values)} bytes of data", EXPORT_AGAIN)
        return unpack(bytearray(values), kind)
    if len(values) != kind.elements:
        raise BundleError(f"a constant of type {kind} has {len(values)} values", EXPORT_AGAIN)
    if kind.dtype.name == "string":
        return tuple(values)
    limits = np.iinfo(kind.dtype.numpy) if kind.dtype.field == "ints" else None
    if limits and any(not limits.min <= number <= limits.max for number in values):
        raise BundleError(f"a constant of type {kind} has values outside the range of that type", EXPORT_AGAIN)
    return np.array(values, kind.dtype.numpy).reshape(kind.shape)


def unpack(content: memoryview | bytearray, kind: TensorType) -> NDArray[Any]:
    """Convert little-endian bytes to a tensor.

    Elements of fewer than 8 bits are packed without gaps, also across bytes, from the least significant bit up.

    Args:
        content: the bytes of the tensor, exactly as many as it needs.
        kind: the type of the tensor.

    Returns:
        The tensor, of `kind`'s shape. Elements of 8 bits or more are a view of `content` of `kind`'s element type;
        smaller ones are decoded to one byte each, int8 or uint8.
    """
    bits = kind.dtype.bits
    if bits >= 8:
        return np.frombuffer(content, np.dtype(kind.dtype.numpy).newbyteorder("<")).reshape(kind.shape)
    return unpack_bits(np.frombuffer(content, np.uint8), bits, kind.elements, kind.dtype.signed).reshape(kind.shape)


def unpack_bits(packed: NDArray[np.uint8], bits: int, count: int, signed: bool) -> NDArray[np.uint8] | NDArray[np.int8]:
    """Unpack integers of `bits` bits each, stored without gaps from the least significant bit up.

    Args:
        packed: bytes (N,).
        bits: the bits of one integer, 1 to 8.
        count: the number of integers to unpack; any bits that follow them are ignored.
        signed: True if the integers are two's complement.

    Returns:
        (count,) int8 if `signed`, else uint8.

    Raises:
        ValueError: `packed` has too few bytes.
    """
    if packed.size * 8 < count * bits:  # numpy would fill in zeros
        raise ValueError(f"{packed.size} bytes are too few for {count} elements of {bits} bits")
    flags = np.unpackbits(packed, bitorder="little", count=count * bits).reshape(count, bits)
    numbers = np.packbits(flags, axis=1, bitorder="little").reshape(count)
    if not signed:
        return numbers
    # Extend the sign: shift the sign bit to bit 7, then shift back arithmetically.
    return (numbers << (8 - bits)).view(np.int8) >> (8 - bits)
