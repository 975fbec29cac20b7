"""The table of operations, and how an operation of a file is bound to its function.

An operation is a plain function whose parameters have the names and defaults of the MIL operation's
inputs (coremltools/converters/mil/mil/ops/defs). A parameter annotated `Tensor` can be computed while
the program runs; every other must be a constant, and arrives as the Python value its annotation says.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.backends.coreml.interpreter.constants import Constant
from cloformer_deploy.backends.coreml.interpreter.files import EXPORT_AGAIN, shown
from cloformer_deploy.errors import BundleError

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Slot:
    """Stands for a value that is only there while the program runs: its place in the interpreter's list."""

    index: int


@dataclass(frozen=True)
class Operator:
    """An operation the interpreter knows.

    Attributes:
        function: computes it.
        rounded: it is computed in float32, and the result rounded to the element type of its first tensor.
            Otherwise the function gets its tensors as they are, and decides the result's type.
        folded: it is computed once, when the program is loaded, in numpy (MIL's `constexpr_` operations).
        parameters: the annotation of each parameter, without None.
        required: the names of those without default.
    """

    function: Callable[..., Any]
    rounded: bool
    folded: bool
    parameters: Mapping[str, Any]
    required: frozenset[str]


OPERATORS: dict[str, Operator] = {}
"""Every operation the interpreter knows, by its MIL name."""


def operator(name: str, *, rounded: bool = True, folded: bool = False) -> Callable[[Function], Function]:
    """Enter the decorated function into `OPERATORS`; see `Operator` for the arguments."""

    def register(function: Function) -> Function:
        hints = get_type_hints(function)
        parameters = inspect.signature(function).parameters
        OPERATORS[name] = Operator(
            function,
            rounded and not folded,
            folded,
            {parameter: _without_none(hints[parameter]) for parameter in parameters},
            frozenset(each.name for each in parameters.values() if each.default is inspect.Parameter.empty),
        )
        return function

    return register


def _without_none(hint: Any) -> Any:
    if isinstance(hint, UnionType):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


def bind(known: Operator, arguments: Mapping[str, tuple[Constant | Slot, ...]], where: str) -> dict[str, Any]:
    """The keyword arguments of an operation's function, checked; tensors yet to be computed are `Slot`s.

    Args:
        known: the operation.
        arguments: what the file gives for each input.
        where: the operation in words, for messages.

    Raises:
        BundleError: an input is unknown, missing, or not the constant it must be.
    """
    unknown = sorted(set(arguments) - set(known.parameters))
    if unknown:
        hint = "it was made for a later version of Core ML than this interpreter knows"
        raise BundleError(f"{where} has the unknown input {shown(', '.join(unknown))}", hint)
    missing = sorted(known.required - set(arguments))
    if missing:
        raise BundleError(f"{where} lacks its input {', '.join(missing)}", EXPORT_AGAIN)
    bound = {}
    for name, values in arguments.items():
        kind = known.parameters[name]
        try:
            bound[name] = [_bound(value, Tensor) for value in values] if kind == list[Tensor] else _only(values, kind)
        except (ValueError, TypeError) as error:  # TypeError: an element type that torch lacks
            raise BundleError(f"{where} has the input {name}, which {error}", EXPORT_AGAIN) from error
    return bound


def _only(values: tuple[Constant | Slot, ...], kind: Any) -> Any:
    if len(values) != 1:
        raise ValueError(f"has {len(values)} values, not one")
    return _bound(values[0], kind)


def _bound(value: Constant | Slot, kind: Any) -> Any:
    """A constant as `kind`: Tensor, NDArray, a Python scalar or a tuple of them; or the slot for a Tensor."""
    if isinstance(value, Slot):
        if kind is not Tensor:
            raise ValueError("is computed, but must be a constant")
        return value
    element = kind if isinstance(kind, type) and kind in _NUMPY_KINDS else None
    if element is not None:
        only = _python_values(value, element)
        if len(only) != 1:
            raise ValueError(f"has {len(only)} values, not one")
        return only[0]
    if not isinstance(value, tuple) and kind is Tensor:
        return torch.from_numpy(value)
    if not isinstance(value, tuple) and kind == NDArray[Any]:
        return value
    if kind is Tensor or kind == NDArray[Any]:
        raise ValueError("is a text or a list, not a tensor")
    elements = get_args(kind)[0]
    if isinstance(elements, UnionType):  # the labels of a classifier
        return _python_values(value, str if isinstance(value, tuple) and value and isinstance(value[0], str) else int)
    return _python_values(value, elements)


_NUMPY_KINDS: dict[type, str] = {bool: "b", int: "iu", float: "f", str: "U"}


def _python_values(value: Constant, element: type) -> tuple[Any, ...]:
    if isinstance(value, tuple):
        if not all(type(each) is element for each in value):
            raise ValueError(f"is {shown(value)}, not {element.__name__}")
        return value
    if value.ndim > 1 or value.dtype.kind not in _NUMPY_KINDS[element]:
        raise ValueError(f"is {value.dtype}{list(value.shape)}, not {element.__name__}")
    return tuple(np.atleast_1d(value).tolist())
