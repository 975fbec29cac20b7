"""Check that every reference in a TFLite file leads into the file, before anything follows it.

A TFLite file is a flatbuffer: tables that refer to each other by relative offsets. Flatbuffers has a verifier for C++
alone; its Python reader takes a wrong offset for one from the end, and an old runtime reads beside the file. The rules
are those of `flatbuffers::Verifier`. Format: https://flatbuffers.dev/internals
"""

import struct

from cloformer_deploy.backends.tflite.schema import Field, fields, members

MAX_TABLES = 200_000
"""Tables of a file, each counted as often as it is referred to. A CloFormer has some 3,000."""

_UINT16, _UINT32, _INT32 = (struct.Struct(form) for form in ("<H", "<I", "<i"))


class DamagedError(ValueError):
    """A reference leads out of the file, or nowhere."""


def check_structure(content: bytes) -> None:
    """Follow every reference from the root table.

    Raises:
        DamagedError: one leads out of the file, is not aligned, or there are more than `MAX_TABLES`.
    """
    _Check(content).table("Model", _reference(content, 0))


def _number(form: struct.Struct, content: bytes, place: int) -> int:
    """Return the number at a place."""
    if not 0 <= place <= len(content) - form.size:
        raise DamagedError(f"it refers to byte {place} of {len(content)}")
    number: int = form.unpack_from(content, place)[0]
    return number


def _reference(content: bytes, place: int) -> int:
    """Return the place that the offset at a place refers to."""
    target = place + _number(_UINT32, content, place)
    if target == place or target % 4:
        raise DamagedError(f"the offset at byte {place} refers to byte {target}, where nothing can begin")
    return target


class _Check:
    """The check of one file; counts what it visits, so that its work is bounded."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._tables = 0
        self._text = 0

    def table(self, name: str, place: int) -> None:
        """Check a table and all that it refers to. The schema has no table that can hold its like, so this ends."""
        self._tables += 1
        if self._tables > MAX_TABLES:
            raise DamagedError(f"it refers to more than {MAX_TABLES} tables")
        vtable = place - _number(_INT32, self._content, place)
        size = _number(_UINT16, self._content, vtable)
        if vtable % 2 or size % 2 or size < 4 or vtable + size > len(self._content):
            raise DamagedError(f"the table at byte {place} has no valid list of its fields")
        for slot, field in fields(name).items():
            offset = _number(_UINT16, self._content, vtable + slot) if slot + 2 <= size else 0
            if offset:
                self._field(field, place + offset, self._kind(field, vtable, slot, place))

    def _kind(self, field: Field, vtable: int, slot: int, place: int) -> str:
        """Return the name of the table that a field refers to; "" for one that the schema does not have."""
        if field.form != "union":
            return field.table
        before = _number(_UINT16, self._content, vtable + slot - 2)
        number = self._bytes(place + before, 1)[0] if before else 0
        return members(field.table).get(number, "")

    def _field(self, field: Field, place: int, table: str) -> None:
        match field.form:
            case "scalar":
                self._bytes(place, field.width)
            case "string":
                self._string(_reference(self._content, place))
            case "table" | "union":
                target = _reference(self._content, place)
                if table:
                    self.table(table, target)
            case "scalars":
                self._vector(_reference(self._content, place), field.width)
            case "strings":
                for element in self._elements(place):
                    self._string(_reference(self._content, element))
            case "tables":
                for element in self._elements(place):
                    self.table(table, _reference(self._content, element))

    def _bytes(self, place: int, size: int) -> bytes:
        if place + size > len(self._content):
            raise DamagedError(f"it refers to bytes {place} to {place + size} of {len(self._content)}")
        return self._content[place : place + size]

    def _vector(self, place: int, width: int) -> range:
        """Return the places of a vector's elements."""
        count = _number(_UINT32, self._content, place)
        first, end = place + 4, place + 4 + count * width
        if end > len(self._content):
            raise DamagedError(f"{count} elements from byte {first} end at byte {end} of {len(self._content)}")
        return range(first, end, width)

    def _elements(self, place: int) -> range:
        return self._vector(_reference(self._content, place), 4)

    def _string(self, place: int) -> None:
        places = self._vector(place, 1)
        self._text += len(places)
        if self._text > 4 * len(self._content):  # names may share their text, but not without end
            raise DamagedError("its texts are longer than the file")
        if self._bytes(places.stop, 1) != b"\0":
            raise DamagedError(f"the text at byte {place} has no end")
