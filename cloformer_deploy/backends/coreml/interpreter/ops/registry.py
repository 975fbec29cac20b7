"""The table of supported operations, and the binding of a file's arguments to the functions that compute them.

An operation is a plain function. Its parameters have the names and defaults of the MIL operation's inputs
(coremltools/converters/mil/mil/ops/defs). A parameter annotated `Tensor` or `list[Tensor]` takes constants and values
that are computed while the program runs. Every other parameter takes a constant, which is converted to the type of
its annotation.
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
from cloformer_deploy.backends.package_files import EXPORT_AGAIN, shown
from cloformer_deploy.errors import BundleError

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Slot:
    """A reference to a value that is computed while the program runs.

    Attributes:
        index: its index in the interpreter's list of values.
    """

    index: int


@dataclass(frozen=True)
class Operator:
    """An operation that the interpreter supports.

    Attributes:
        function: the function that computes it.
        rounded: if True, float16 tensors are converted to float32 for the function, and the result is rounded to the
            element type of the first tensor argument. If False, the function receives its tensors unchanged and
            decides the type of the result.
        folded: if True, the operation is computed in numpy when the program is loaded (MIL's `constexpr_` operations).
        parameters: the annotation of each parameter by name, without `None`.
        required: the names of the parameters without default.
    """

    function: Callable[..., Any]
    rounded: bool
    folded: bool
    parameters: Mapping[str, Any]
    required: frozenset[str]


OPERATORS: dict[str, Operator] = {}
"""Every operation that the interpreter supports, by its MIL name."""


def operator(name: str, *, rounded: bool = True, folded: bool = False) -> Callable[[Function], Function]:
    """Register the decorated function in `OPERATORS` under its MIL name.

    Args:
        name: the MIL name of the operation.
        rounded: see `Operator`; ignored if `folded`.
        folded: see `Operator`.
    """

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
    """Check the arguments of an operation and convert them to those of its function.

    Args:
        known: the operation.
        arguments: the values that the file gives for each input, by name.
        where: the type and name of the operation, for messages.

    Returns:
        The keyword arguments of the function. Tensors that are computed while the program runs are `Slot`s.

    Raises:
        BundleError: an input is unknown or missing, or a constant does not have the type it must have.
    """
    unknown = sorted(set(arguments) - set(known.parameters))
    if unknown:
        hint = "export the package for an earlier iOS version: the interpreter does not support this input"
        raise BundleError(f"{where} has the unknown input {shown(', '.join(unknown))}", hint)
    missing = sorted(known.required - set(arguments))
    if missing:
        raise BundleError(f"{where} lacks the required input {', '.join(missing)}", EXPORT_AGAIN)
    bound = {}
    for name, values in arguments.items():
        kind = known.parameters[name]
        try:
            is_list = kind == list[Tensor]
            bound[name] = [_convert(value, Tensor) for value in values] if is_list else _convert_single(values, kind)
        except (ValueError, TypeError) as error:  # torch raises TypeError for an element type that it lacks
            raise BundleError(f"{where} has the input {name}, which {error}", EXPORT_AGAIN) from error
    return bound


def _convert_single(values: tuple[Constant | Slot, ...], kind: Any) -> Any:
    if len(values) != 1:
        raise ValueError(f"has {len(values)} values, expected 1")
    return _convert(values[0], kind)


def _convert(value: Constant | Slot, kind: Any) -> Any:
    """Convert a constant to the type of a parameter, or return the slot of a computed tensor.

    Args:
        value: the constant or slot.
        kind: the parameter's annotation: Tensor, NDArray, a Python scalar type, or a tuple of such types.

    Raises:
        ValueError: the value cannot be converted. The message completes a sentence about the input.
        TypeError: torch does not have the constant's element type.
    """
    if isinstance(value, Slot):
        if kind is not Tensor:
            raise ValueError("is computed, but must be a constant")
        return value
    element = kind if isinstance(kind, type) and kind in _NUMPY_KINDS else None
    if element is not None:
        converted = _python_values(value, element)
        if len(converted) != 1:
            raise ValueError(f"has {len(converted)} values, expected 1")
        return converted[0]
    if not isinstance(value, tuple) and kind is Tensor:
        return torch.from_numpy(value)
    if not isinstance(value, tuple) and kind == NDArray[Any]:
        return value
    if kind is Tensor or kind == NDArray[Any]:
        raise ValueError("is a string or a list, not a tensor")
    elements = get_args(kind)[0]
    if isinstance(elements, UnionType):  # The labels of a classifier are strings or integers.
        return _python_values(value, str if isinstance(value, tuple) and value and isinstance(value[0], str) else int)
    return _python_values(value, elements)


_NUMPY_KINDS: dict[type, str] = {bool: "b", int: "iu", float: "f", str: "U"}
"""The numpy `dtype.kind` codes that each Python type accepts."""


def _python_values(value: Constant, element: type) -> tuple[Any, ...]:
    """Convert a scalar, vector or list constant to a tuple of Python values of type `element`."""
    if isinstance(value, tuple):
        if not all(type(each) is element for each in value):
            raise ValueError(f"is {shown(value)}, not {element.__name__}")
        return value
    if value.ndim > 1 or value.dtype.kind not in _NUMPY_KINDS[element]:
        raise ValueError(f"is {value.dtype}{list(value.shape)}, not {element.__name__}")
    return tuple(np.atleast_1d(value).tolist())
