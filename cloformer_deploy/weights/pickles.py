"""Reading of pickled data without running any of it.

A pickle is a program: its opcodes build values, and some call functions that it names. Here the opcodes are interpreted
and nothing is called. Numbers, texts and containers become Python's; every other object becomes an inert record (see
`records`). Source of the opcodes: Lib/pickletools.py and PEP 3154 (protocols 0 to 5).
"""

import io
import pickletools
from collections.abc import Callable, Iterator
from typing import Any

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.system.text import clipped
from cloformer_deploy.weights.records import Record, called, hashable, storage_of

MAX_OPCODES = 2_000_000
"""A checkpoint of the largest variant with its optimizer has about 50,000. Each can take some 200 bytes of memory."""
_DAMAGED = "copy or download the file again, and compare its checksum with that of the source"


_MARK = object()
_MODULES = {"__builtin__": "builtins"}
"""Names that modules have in protocols 0 to 2."""


def unpickle(file: io.BytesIO) -> Any:
    """Return the value that the pickle at the file's position describes, and leave the position behind it.

    Raises:
        CheckpointError: the bytes are no pickle.
    """
    try:
        return _Machine().run(file)
    except CheckpointError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeError, OverflowError) as error:
        # pickletools raises ValueError; the others come of opcodes that do not fit what is on the stack.
        raise CheckpointError(
            f"the file is truncated or damaged ({clipped(f'{type(error).__name__}: {error}')})", _DAMAGED
        ) from error


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_OPCODES:
                raise CheckpointError(f"the pickled data has more than {MAX_OPCODES} opcodes", _DAMAGED)
            if opcode.name == "STOP":
                return self.pop()
            handler = _HANDLERS.get(opcode.name)
            if handler is not None:
                handler(self, argument)
            elif opcode.name in _CONSTANTS:
                self._stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _LITERALS:
                self._stack.append(argument)
            elif opcode.name not in _IGNORED:
                raise CheckpointError(f"the pickled data has an opcode {opcode.name}, which is not read", _DAMAGED)
        raise ValueError("it does not end")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is due")
        return value

    def top(self) -> Any:
        return self._stack[-1]

    def since_mark(self) -> list[Any]:
        """Remove and return the values above the last mark."""
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                values = self._stack[index + 1 :]
                del self._stack[index:]
                return values
        raise ValueError("no mark")

    def mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def pop_one(self, _: Any) -> None:
        self._stack.pop()

    def pop_mark(self, _: Any) -> None:
        self.since_mark()

    def duplicate(self, _: Any) -> None:
        self.push(self.top())

    def put(self, index: Any) -> None:
        self._memo[int(index)] = self.top()

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.top()

    def get(self, index: Any) -> None:
        self.push(self._memo[int(index)])

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def tuple_since_mark(self, _: Any) -> None:
        self.push(tuple(self.since_mark()))

    def list_since_mark(self, _: Any) -> None:
        self.push(self.since_mark())

    def set_since_mark(self, _: Any) -> None:
        self.push(Record("builtins.frozenset", (self.since_mark(),)))

    def dict_since_mark(self, _: Any) -> None:
        values = self.since_mark()
        self.push({})
        self._set(_pairs(values))

    def append(self, _: Any) -> None:
        value = self.pop()
        self._extend([value])

    def appends(self, _: Any) -> None:
        values = self.since_mark()
        self._extend(values)

    def _extend(self, values: list[Any]) -> None:
        target = self.top()
        (target.items if isinstance(target, Record) else target).extend(values)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._set(iter([(key, value)]))

    def set_items(self, _: Any) -> None:
        values = self.since_mark()
        self._set(_pairs(values))

    def _set(self, pairs: Iterator[tuple[Any, Any]]) -> None:
        target = self.top()
        entries = target.entries if isinstance(target, Record) else target
        if not isinstance(entries, dict):
            raise TypeError("items are set in what is no dictionary")
        for key, value in pairs:
            entries[hashable(key)] = value

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.push(Record(f"{_MODULES.get(module, module)}.{name}"))

    def name_on_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.push(Record(f"{module}.{name}"))

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        self.push(called(function, arguments))

    def call_with_keywords(self, _: Any) -> None:
        keywords, arguments, function = self.pop(), self.pop(), self.pop()
        made = called(function, arguments)
        if isinstance(made, Record) and isinstance(keywords, dict):
            made.entries.update(keywords)
        self.push(made)

    def object_since_mark(self, _: Any) -> None:
        function, *arguments = self.since_mark()
        self.push(called(function, tuple(arguments)))

    def instance(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.push(called(Record(f"{module}.{name}"), tuple(self.since_mark())))

    def build(self, _: Any) -> None:
        state = self.pop()
        target = self.top()
        if isinstance(target, Record):
            target.state = state

    def persistent(self, _: Any) -> None:
        self.push(storage_of(self.pop()))

    def persistent_text(self, argument: str) -> None:
        self.push(Record("persistent id", (argument,)))


def _pairs(values: list[Any]) -> Iterator[tuple[Any, Any]]:
    if len(values) % 2:
        raise ValueError("a key without a value")
    return zip(values[::2], values[1::2], strict=True)


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Record("builtins.set"),
    "NEXT_BUFFER": lambda: Record("buffer"),
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_IGNORED = {"PROTO", "FRAME", "READONLY_BUFFER"}
_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop_one,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.tuple_since_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": _Machine.list_since_mark,
    "DICT": _Machine.dict_since_mark,
    "FROZENSET": _Machine.set_since_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_on_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "OBJ": _Machine.object_since_mark,
    "INST": _Machine.instance,
    "BUILD": _Machine.build,
    "PERSID": _Machine.persistent_text,
    "BINPERSID": _Machine.persistent,
}
