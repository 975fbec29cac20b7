"""Values that a pickle describes: inert records of objects, and records of tensors; nothing in them is called.

Source of the functions that rebuild tensors: torch/_utils.py; of persistent ids: torch/serialization.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(eq=False, slots=True)
class Record:
    """An object that a pickle describes, or a class or function that it names. It does nothing.

    Attributes:
        name: dotted name of the class or function.
        arguments: that it would be called with; None where it is only named.
        state: that the object would be given.
        items: entries that would be appended.
        entries: entries that would be set by key.
    """

    name: str
    arguments: tuple[Any, ...] | None = None
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, slots=True)
class TensorRecord:
    """A tensor whose numbers have not been read.

    Attributes:
        dtype: name of the storage's dtype, such as `float32`.
        key: name of the storage in its container.
        storage_numel: elements of the storage.
        offset: of the first element in the storage, elements.
        shape: of the tensor.
        stride: of the tensor, elements.
    """

    dtype: str
    key: str
    storage_numel: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
"""dtypes of torch's storage classes by name; the class may be of `torch`, `torch.cuda` or `torch.storage`."""


def hashable(key: Any) -> Any:
    """Return a key that a dictionary can have. Hashing a tuple within a tuple within ... would overflow the stack."""
    plain = str | int | float | bytes | bool | Record | None
    if isinstance(key, plain) or (isinstance(key, tuple) and all(isinstance(item, plain) for item in key)):
        return key
    return Record(f"a key of type {type(key).__name__}", (key,))


@dataclass(frozen=True, eq=False, slots=True)
class _Storage:
    dtype: str
    key: str
    numel: int
    offset: int = 0


def storage_of(said: Any) -> Any:
    """Return the storage that a persistent id of torch.save names; another id is a record.

    It is ("storage", class, key, device, elements) and, in the legacy format, a view: (key, offset, elements) or None.
    """
    if not isinstance(said, tuple) or len(said) not in (5, 6) or said[0] != "storage":
        return Record("persistent id", (said,))
    kind, key, numel = said[1], said[2], said[4]
    view = said[5] if len(said) == 6 else None
    name = kind.name.rpartition(".")[2] if isinstance(kind, Record) else ""
    if not isinstance(key, str) or not _is_size(numel):
        raise ValueError("a storage without key or size")
    offset = view[1] if isinstance(view, tuple) and len(view) == 3 and _is_size(view[1]) else 0
    return _Storage(_STORAGES.get(name, name), key, numel, offset)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def called(function: Any, arguments: Any) -> Any:
    """Return what a call would give, without calling anything that the pickle names."""
    if not isinstance(function, Record) or not isinstance(arguments, tuple):
        raise TypeError("a call of what has no name")
    rebuild = _REBUILT.get(function.name)
    if rebuild is not None:
        made = rebuild(arguments)
        if made is not None:
            return made
    return Record(function.name, arguments)


def _tensor(arguments: tuple[Any, ...]) -> TensorRecord | None:
    """`torch._utils._rebuild_tensor_v2(storage, offset, shape, stride, ...)`."""
    if len(arguments) < 4 or not isinstance(arguments[0], _Storage):
        return None
    storage, offset, shape, stride = arguments[:4]
    shape, stride = _sizes(shape), _sizes(stride)
    if shape is None or stride is None or len(shape) != len(stride) or not _is_size(offset):
        raise ValueError("a tensor without shape or stride")
    return TensorRecord(storage.dtype, storage.key, storage.numel, storage.offset + offset, shape, stride)


def _typed_tensor(arguments: tuple[Any, ...]) -> TensorRecord | None:
    """`torch._utils._rebuild_tensor_v3(storage, offset, shape, stride, grad, hooks, dtype, ...)`: untyped storages."""
    if len(arguments) < 7 or not isinstance(arguments[0], _Storage) or not isinstance(arguments[6], Record):
        return None
    dtype = arguments[6].name.rpartition(".")[2]
    storage = replace(arguments[0], dtype=dtype)
    return _tensor((storage, *arguments[1:4]))


def _sizes(value: Any) -> tuple[int, ...] | None:
    """The numbers of a tuple or of a `torch.Size`."""
    if isinstance(value, Record) and value.arguments:
        value = value.arguments[0]
    return tuple(value) if isinstance(value, tuple | list) and all(map(_is_size, value)) and len(value) <= 16 else None


def _first(arguments: tuple[Any, ...]) -> Any:
    """`torch._utils._rebuild_parameter(data, ...)`: the tensor."""
    return arguments[0] if arguments and isinstance(arguments[0], TensorRecord) else None


def _of_type(arguments: tuple[Any, ...]) -> Any:
    """`torch._tensor._rebuild_from_type_v2(function, type, arguments, state)`."""
    return called(arguments[0], arguments[2]) if len(arguments) >= 3 and isinstance(arguments[2], tuple) else None


def _dictionary(arguments: tuple[Any, ...]) -> dict[Any, Any] | None:
    """`collections.OrderedDict()`, or of a list of pairs."""
    if not arguments:
        return {}
    pairs = arguments[0]
    if (
        len(arguments) == 1
        and isinstance(pairs, list)
        and all(isinstance(p, tuple | list) and len(p) == 2 for p in pairs)
    ):
        return {hashable(key): value for key, value in pairs}
    return None


def _default_dictionary(arguments: tuple[Any, ...]) -> dict[Any, Any] | None:
    return _dictionary(arguments[1:])


_REBUILT: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch._tensor._rebuild_from_type": _of_type,
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _default_dictionary,
    "builtins.dict": _dictionary,
    "__builtin__.dict": _dictionary,
}
"""Functions and classes whose results are known, and how they are made here."""
