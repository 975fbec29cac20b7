"""The fields of the tables in a TFLite file, read off the classes that flatbuffers generated from its schema.

A generated class has methods for each field, which tell its place in the vtable (the first constant, the argument of
`Offset`) and its form (the functions that are called). The package has no other copy of the schema.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType
from typing import Any, Literal

_ENUMERATIONS = {
    "Details": "QuantizationDetails",
    "ArraySegments": "SparseIndexVector",
    "ArrayIndices": "SparseIndexVector",
}
"""The enumerations of unions whose fields have another name."""
Form = Literal["scalar", "string", "table", "union", "scalars", "strings", "tables"]


@dataclass(frozen=True)
class Field:
    """A field of a table.

    Attributes:
        form: of its value; those in the plural are vectors.
        width: bytes of a scalar, or of one element of a vector of scalars.
        table: name of the table that it refers to, or of the union's enumeration.
    """

    form: Form
    width: int = 4
    table: str = ""


@cache
def fields(table: str) -> Mapping[int, Field]:
    """Return the fields of a table, by their place in the vtable in bytes."""
    found = {}
    for name, method in vars(_class(table)).items():
        if isinstance(method, FunctionType) and "Offset" in method.__code__.co_names:
            field = _field(name, method.__code__)
            if field is not None:
                found[_place(method.__code__)] = field
    return found


@cache
def members(union: str) -> Mapping[int, str]:
    """Return the tables that a union can hold, by number."""
    return {number: name for name, number in vars(_class(union)).items() if isinstance(number, int) and number}


def _place(code: CodeType) -> int:
    return next(constant for constant in code.co_consts if type(constant) is int)


def _field(name: str, code: CodeType) -> Field | None:
    """Return the field that a method reads; None for a method that tells only the length of a vector."""
    names = set(code.co_names)
    if "Union" in names:
        return Field("union", table=_ENUMERATIONS.get(name, name))
    if "String" in names:
        return Field("strings" if "Vector" in names else "string")
    if "Indirect" in names:
        table = next(called for called in code.co_names if hasattr(getattr(_schema(), called, None), "GetRootAs"))
        return Field("tables" if "Vector" in names else "table", table=table)
    if "Get" in names:
        return Field("scalars" if "Vector" in names else "scalar", _width(code))
    return None


def _width(code: CodeType) -> int:
    """Return the bytes of a scalar, whose type is the last one that the method names but for that of offsets."""
    from flatbuffers import number_types

    flags = [name for name in code.co_names if name.endswith("Flags") and name != "UOffsetTFlags"]
    return int(getattr(number_types, flags[-1]).bytewidth)


def _class(name: str) -> Any:
    return getattr(_schema(), name)


def _schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated
