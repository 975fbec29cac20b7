"""The steps of a program: operations that are ready to run, with resolved arguments and known results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cloformer_deploy.backends.coreml.interpreter.types import OtherType, TensorType
from cloformer_deploy.backends.package_files import shown
from cloformer_deploy.errors import ToolError


@dataclass(frozen=True, slots=True)
class Result:
    """An output of a step.

    Attributes:
        name: its name in the program.
        slot: the index of its place in the list of values.
        declared: its type as the file declares it.
        dtype: the torch type of a tensor; None for other outputs, and for types that a computed tensor cannot have.
        shape: the size of each axis of a tensor; () for other outputs.
    """

    name: str
    slot: int
    declared: TensorType | OtherType
    dtype: torch.dtype | None
    shape: tuple[int, ...]

    def check(self, value: Any, operation: str) -> None:
        """Check that a computed value has the type that the file declares.

        Args:
            value: the computed value: a tensor, or a classifier's label or dictionary.
            operation: the MIL name of the operation, for the message.

        Raises:
            ToolError: the shape or the type differs.
        """
        if isinstance(value, Tensor):
            if value.dtype is self.dtype and value.shape == self.shape:
                return
            computed = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        else:
            computed = _type_text(value)
            if computed == str(self.declared):
                return
        raise ToolError(
            f"the output {shown(self.name)} of {operation} is declared as {self.declared}, but computed as {computed}",
            "export the package again, in case it was changed since; if that does not help, report this "
            "as a bug in the interpreter",
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One operation, ready to run.

    Attributes:
        operation: its MIL name.
        function: the function that computes it.
        constants: the arguments that are constants, by parameter; float16 tensors are float32 already if `rounded`.
        slots: the arguments that are computed values, as (parameter, slot).
        lists: the arguments that are lists of tensors, as (parameter, items); an item is a constant or a slot.
        rounded: see `Operator`.
        first: the slot of the first tensor argument, or that tensor's element type if it is a constant; it decides
            the element type of a rounded result.
        results: the outputs.
        frees: the slots whose values no later step reads.
    """

    operation: str
    function: Callable[..., Any]
    constants: Mapping[str, Any]
    slots: tuple[tuple[str, int], ...]
    lists: tuple[tuple[str, tuple[Tensor | int, ...]], ...]
    rounded: bool
    first: int | torch.dtype
    results: tuple[Result, ...]
    frees: tuple[int, ...]

    def compute(self, values: list[Any]) -> tuple[Any, ...]:
        """Compute the step's outputs from the list of values, and return them in the order of `results`."""
        arguments = dict(self.constants)
        for name, slot in self.slots:
            arguments[name] = values[slot]
        for name, items in self.lists:
            arguments[name] = [values[item] if isinstance(item, int) else item for item in items]
        if self.rounded:
            return (self._round(self.function(**widened(arguments)), values),)
        out = self.function(**arguments)
        return out if isinstance(out, tuple) else (out,)

    def _round(self, out: Tensor, values: list[Any]) -> Tensor:
        dtype = values[self.first].dtype if isinstance(self.first, int) else self.first
        return out.to(dtype) if dtype is torch.float16 else out


def with_frees(steps: list[Step], kept: set[int]) -> tuple[Step, ...]:
    """Return the steps with their `frees` filled in.

    Args:
        steps: all steps of a program, in order.
        kept: the slots of the program's outputs, which are never freed.
    """
    freed = set(kept)
    backwards = []
    for step in reversed(steps):
        read = {slot for _, slot in step.slots}
        read |= {item for _, items in step.lists for item in items if isinstance(item, int)}
        made = {result.slot for result in step.results}
        frees = (read | made) - freed
        freed |= frees
        backwards.append(replace(step, frees=tuple(sorted(frees))))
    return tuple(reversed(backwards))


def widened(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with float16 tensors, alone or in lists, converted to float32."""
    return {name: _widen(value) for name, value in arguments.items()}


def _widen(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype is torch.float16 else value
    if isinstance(value, list):
        return [_widen(item) for item in value]
    return value


def _type_text(value: Any) -> str:
    """Return the MIL type of a classifier's label or dictionary, as `TensorType` and `OtherType` print it."""
    if isinstance(value, dict):
        return f"dictionary of {_type_text(next(iter(value), None)).removesuffix('[]')}"
    return {str: "string[]", int: "int64[]"}.get(type(value), type(value).__name__)
