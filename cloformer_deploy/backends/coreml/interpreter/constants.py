"""Decoding the constants of a program: immediate values in the protobuf, and entries of its weight files.

A weight file ("blob storage", version 2; MILBlob/Blob/StorageFormat.hpp in apple/coremltools) is little-endian:

    header, 64 bytes      uint32 count of entries, uint32 version = 2, reserved
    each entry            64-byte aligned, the metadata then the data
      metadata, 64 bytes  uint32 0xDEADBEEF, uint32 data type, uint64 size in bytes, uint64 offset of the data in
                          the file, uint64 unused bits at its end (only for types under 8 bits), reserved
"""

import struct
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.coreml.interpreter.files import EXPORT_AGAIN, shown
from cloformer_deploy.backends.coreml.interpreter.package import Package
from cloformer_deploy.backends.coreml.interpreter.types import UNKNOWN_SIZE, OtherType, TensorType, value_type
from cloformer_deploy.errors import BundleError

Constant: TypeAlias = NDArray[Any] | tuple[str | int | float, ...]
"""A decoded tensor of numbers; texts and lists are tuples (a scalar text is a tuple of one)."""

ALIGNMENT = 64
SENTINEL = 0xDEADBEEF
VERSION = 2
_HEADER = struct.Struct("<II")
_METADATA = struct.Struct("<IIQQQ")


class WeightFile:
    """One weight file in memory; `name` is for messages. Decoded arrays are views of `content`."""

    def __init__(self, name: str, content: bytearray) -> None:
        self.name = name
        self._content = content
        if len(content) < ALIGNMENT:
            self._reject(f"has {len(content)} bytes, fewer than its {ALIGNMENT}-byte header")
        count, version = _HEADER.unpack_from(content)
        if version != VERSION:
            self._reject(f"has version {version}, not {VERSION}")
        if not 1 <= count < len(content) // ALIGNMENT:
            self._reject(f"announces {count} entries in {len(content)} bytes")

    def decode(self, offset: int, kind: TensorType) -> NDArray[Any]:
        """The tensor of type `kind` whose metadata are at byte `offset`.

        Raises:
            BundleError: there is no such entry, or it is not of that type and size.
        """
        where = f"at byte {offset}"
        if offset % ALIGNMENT or not ALIGNMENT <= offset <= len(self._content) - ALIGNMENT:
            self._reject(f"cannot have an entry {where} of {len(self._content)}")
        sentinel, blob_type, size, start, unused = _METADATA.unpack_from(self._content, offset)
        if sentinel != SENTINEL:
            self._reject(f"has no entry {where} (its mark is {sentinel:#x}, not {SENTINEL:#x})")
        if blob_type != kind.dtype.blob:
            self._reject(f"has data type {blob_type} {where}, not {kind.dtype.blob} ({kind.dtype.name})")
        if start % ALIGNMENT or start < ALIGNMENT or start + size > len(self._content):
            self._reject(f"has its data {where} in bytes {start} to {start + size} of {len(self._content)}")
        bits = kind.elements * kind.dtype.bits
        if size * 8 != bits + -bits % 8:
            self._reject(f"has {size} bytes {where}, not those of {kind}")
        # Before iOS 18 the field was not initialized, and no type under 8 bits existed.
        if kind.dtype.bits < 8 and unused != size * 8 - bits:
            self._reject(f"has {unused} unused bits {where}, not {size * 8 - bits}")
        return unpack(memoryview(self._content)[start : start + size], kind)

    def _reject(self, what: str) -> NoReturn:
        raise BundleError(f"the weight file {shown(self.name)} {what}", EXPORT_AGAIN)


class Decoder:
    """Decodes the values of one package; each weight file is read once, when a value first needs it."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._files: dict[str, WeightFile] = {}

    def decode(self, value: Any) -> Constant:
        """The constant in a MIL_pb2.Value.

        Raises:
            BundleError: it is malformed, or of a kind Core ML programs do not have.
        """
        kind = value_type(value.type)
        where = value.WhichOneof("value")
        if isinstance(kind, OtherType):
            if kind.kind != "list" or where != "immediateValue":
                raise BundleError(f"a constant is a {kind}, which is not supported", EXPORT_AGAIN)
            return self._decode_list(value.immediateValue.list)
        if UNKNOWN_SIZE in kind.shape:
            raise BundleError(f"a constant is declared as {kind}, without a size", EXPORT_AGAIN)
        if where == "blobFileValue":
            return self._file(value.blobFileValue.fileName).decode(value.blobFileValue.offset, kind)
        if where != "immediateValue":
            raise BundleError(f"a constant of type {kind} has no value", EXPORT_AGAIN)
        return _immediate(value.immediateValue.tensor, kind)

    def _decode_list(self, values: Any) -> Constant:
        items: list[str | int | float] = []
        for value in values.values:
            item = self.decode(value)
            if len(np.ravel(item)) != 1:
                raise BundleError("a list holds something other than single values", EXPORT_AGAIN)
            items.append(item[0] if isinstance(item, tuple) else item.item())
        return tuple(items)

    def _file(self, name: str) -> WeightFile:
        if name not in self._files:
            self._files[name] = WeightFile(name, self._package.read_weights(name))
        return self._files[name]


def _immediate(tensor: Any, kind: TensorType) -> Constant:
    """The values in a MIL_pb2.TensorValue."""
    field = tensor.WhichOneof("value")
    # A tensor without elements may have lost its empty field in writing.
    if field is None and kind.elements == 0:
        field = kind.dtype.field
    if field not in (kind.dtype.field, "bytes"):
        raise BundleError(f"a constant of type {kind} has its values in {shown(field)}", EXPORT_AGAIN)
    values = getattr(tensor, field).values
    if field == "bytes":
        bits = kind.elements * kind.dtype.bits
        if kind.dtype.name == "string" or len(values) * 8 != bits + -bits % 8:
            raise BundleError(f"a constant of type {kind} has {len(values)} bytes", EXPORT_AGAIN)
        return unpack(bytearray(values), kind)
    if len(values) != kind.elements:
        raise BundleError(f"a constant of type {kind} has {len(values)} values", EXPORT_AGAIN)
    if kind.dtype.name == "string":
        return tuple(values)
    limits = np.iinfo(kind.dtype.numpy) if kind.dtype.field == "ints" else None
    if limits and any(not limits.min <= number <= limits.max for number in values):
        raise BundleError(f"a constant of type {kind} has values that do not fit", EXPORT_AGAIN)
    return np.array(values, kind.dtype.numpy).reshape(kind.shape)


def unpack(content: memoryview | bytearray, kind: TensorType) -> NDArray[Any]:
    """The tensor in little-endian bytes of exactly its size; a view where its elements are whole bytes.

    Elements under 8 bits follow one another from the least significant bit up, across bytes, and are
    decoded to one byte each: [...] int8 or uint8.
    """
    bits = kind.dtype.bits
    if bits >= 8:
        return np.frombuffer(content, np.dtype(kind.dtype.numpy).newbyteorder("<")).reshape(kind.shape)
    return unpack_bits(np.frombuffer(content, np.uint8), bits, kind.elements, kind.dtype.signed).reshape(kind.shape)


def unpack_bits(packed: NDArray[np.uint8], bits: int, count: int, signed: bool) -> NDArray[np.uint8] | NDArray[np.int8]:
    """The first `count` integers of `bits` bits each in `packed`, least significant bit first: [count].

    Raises:
        ValueError: there are not as many.
    """
    if packed.size * 8 < count * bits:  # numpy would add zeros
        raise ValueError(f"{packed.size} bytes are too few for {count} elements of {bits} bits")
    flags = np.unpackbits(packed, bitorder="little", count=count * bits).reshape(count, bits)
    numbers = np.packbits(flags, axis=1, bitorder="little").reshape(count)
    if not signed:
        return numbers
    # Sign extension: the sign bit moves to bit 7 and back.
    return (numbers << (8 - bits)).view(np.int8) >> (8 - bits)
