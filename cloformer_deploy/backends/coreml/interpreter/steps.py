"""One operation of a program, ready to run: its arguments resolved, its results known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cloformer_deploy.backends.coreml.interpreter.files import shown
from cloformer_deploy.backends.coreml.interpreter.types import OtherType, TensorType
from cloformer_deploy.errors import ToolError


@dataclass(frozen=True, slots=True)
class Result:
    """One output of a step: its name and declared type, and the slot it goes to."""

    name: str
    slot: int
    declared: TensorType | OtherType
    dtype: torch.dtype | None
    shape: tuple[int, ...]

    def check(self, value: Any, operation: str) -> None:
        """Hold a computed value against the type the file declares.

        Raises:
            ToolError: the shape or the element type differs.
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
            "the package was changed after its export, or the interpreter has a fault: export it again and compare",
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One operation, ready to run.

    Attributes:
        operation: its MIL name.
        function: what computes it.
        constants: its arguments that are known; float16 tensors widened already where `rounded`.
        slots: its arguments that are values, as (parameter, slot).
        lists: its arguments that are lists of tensors, each a constant or a slot.
        rounded: see `Operator`.
        first: the slot of its first tensor, or that tensor's element type if it is a constant.
        results: its outputs.
        frees: slots no later step reads.
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
        """The step's outputs, given the values so far."""
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
    """The steps, each with the slots that no later one reads and that are no output."""
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
    """The arguments with float16 tensors as float32."""
    return {name: _widen(value) for name, value in arguments.items()}


def _widen(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype is torch.float16 else value
    if isinstance(value, list):
        return [_widen(item) for item in value]
    return value


def _type_text(value: Any) -> str:
    """The MIL type of a classifier's output, in words."""
    if isinstance(value, dict):
        return f"dictionary of {_type_text(next(iter(value), None)).removesuffix('[]')}"
    return {str: "string[]", int: "int64[]"}.get(type(value), type(value).__name__)
