"""Convert a parsed program to a list of steps: decode constants, resolve arguments, determine lifetimes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy import __version__
from cloformer_deploy.backends.coreml.interpreter.constants import Constant, Decoder
from cloformer_deploy.backends.coreml.interpreter.ops import OPERATORS, Operator, Slot, bind
from cloformer_deploy.backends.coreml.interpreter.package import Package, input_types
from cloformer_deploy.backends.coreml.interpreter.rounding import Compressed
from cloformer_deploy.backends.coreml.interpreter.steps import Result, Step, widened, with_frees
from cloformer_deploy.backends.coreml.interpreter.types import TORCH_DTYPES, OtherType, TensorType, value_type
from cloformer_deploy.backends.package_files import EXPORT_AGAIN, shown
from cloformer_deploy.errors import BundleError


@dataclass(frozen=True)
class Plan:
    """A program as a sequence of steps, which read and write a list of values; a slot is an index into that list.

    Attributes:
        steps: the steps, in the order of the file.
        inputs: the slot and type of each input of the program, by name.
        outputs: the slot of each output of the program, by name.
        size: the length of the list of values.
        constants: the decoded float tensors of the file, by name.
        compressed: the stored form of those constants that are compressed, by name.
    """

    steps: tuple[Step, ...]
    inputs: Mapping[str, tuple[int, TensorType]]
    outputs: Mapping[str, int]
    size: int
    constants: Mapping[str, NDArray[Any]]
    compressed: Mapping[str, Compressed]


def make_plan(package: Package) -> Plan:
    """Check a whole program and prepare it for running.

    Raises:
        BundleError: the program has unsupported operations (the message lists all of them), or is malformed.
    """
    _check_unknown(package)
    builder = _Builder(Decoder(package))
    inputs = {name: (builder.add(name), kind) for name, kind in input_types(package).items()}
    steps = [step for operation in package.block.operations if (step := builder.step(operation))]
    outputs = builder.outputs(package)
    return Plan(
        steps=with_frees(steps, set(outputs.values())),
        inputs=inputs,
        outputs=outputs,
        size=len(builder.slots),
        constants={
            name: value
            for name, value in builder.constants.items()
            if not isinstance(value, tuple) and value.dtype.kind == "f"
        },
        compressed=builder.compressed,
    )


def _check_unknown(package: Package) -> None:
    unknown = {name: count for name, count in package.operators.items() if name not in OPERATORS}
    if unknown:
        listed = ", ".join(f"{shown(name)} ({count})" for name, count in sorted(unknown.items()))
        raise BundleError(
            f"the program has operations that the interpreter does not support: {listed}",
            f"cloformer-deploy {__version__} supports the operations of its own exports; run other programs on a Mac, "
            "and report these operations if cloformer-deploy exported this program",
        )


class _Builder:
    """Converts operations to steps, in order; keeps the constants and the slots of the operations so far, by name."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.constants: dict[str, Constant] = {}
        self.compressed: dict[str, Compressed] = {}
        self.slots: dict[str, int] = {}

    def add(self, name: str) -> int:
        """Assign a new slot to a value and return it."""
        self._check_new(name)
        return self.slots.setdefault(name, len(self.slots))

    def step(self, operation: Any) -> Step | None:
        """Convert a MIL_pb2.Operation to a step; return None if it defines a constant, which is stored."""
        where = f"{operation.type} {shown(operation.outputs[0].name if operation.outputs else '')}"
        if operation.blocks:
            raise BundleError(f"{where} has nested blocks, which the interpreter does not support", EXPORT_AGAIN)
        if operation.type == "const":
            self._constant(operation, where, self._decoder.decode(operation.attributes["val"]))
            return None
        known = OPERATORS[operation.type]
        arguments = bind(known, self._arguments(operation, where), where)
        if known.folded:
            self._constant(operation, where, _folded(known, arguments, where))
            self.compressed[operation.outputs[0].name] = Compressed(operation.type, arguments)
            return None
        return _step(operation.type, known, arguments, tuple(self._result(each) for each in operation.outputs))

    def _arguments(self, operation: Any, where: str) -> dict[str, tuple[Constant | Slot, ...]]:
        arguments: dict[str, tuple[Constant | Slot, ...]] = {
            name: tuple(self._argument(binding, where) for binding in argument.arguments)
            for name, argument in operation.inputs.items()
        }
        # Up to iOS 17 the inputs of `constexpr_` operations are stored as attributes.
        for name, value in operation.attributes.items():
            if name != "name":
                arguments[name] = (self._decoder.decode(value),)
        return arguments

    def _argument(self, binding: Any, where: str) -> Constant | Slot:
        if binding.WhichOneof("binding") == "value":
            return self._decoder.decode(binding.value)
        if binding.name in self.constants:
            return self.constants[binding.name]
        if binding.name not in self.slots:
            raise BundleError(f"{where} reads {shown(binding.name)}, which no earlier operation defines", EXPORT_AGAIN)
        return Slot(self.slots[binding.name])

    def _constant(self, operation: Any, where: str, value: Constant) -> None:
        if len(operation.outputs) != 1:
            raise BundleError(f"{where} has {len(operation.outputs)} outputs, expected 1", EXPORT_AGAIN)
        declared = value_type(operation.outputs[0].type)
        if not _fits(value, declared):
            found = shown(value) if isinstance(value, tuple) else f"{value.dtype}{list(value.shape)}"
            raise BundleError(f"{where} is declared as {declared}, but its value is {found}", EXPORT_AGAIN)
        self._check_new(operation.outputs[0].name)
        self.constants[operation.outputs[0].name] = value

    def _result(self, output: Any) -> Result:
        declared = value_type(output.type)
        if not isinstance(declared, TensorType):
            return Result(output.name, self.add(output.name), declared, None, ())
        if min(declared.shape, default=0) < 0:
            message = f"the value {shown(output.name)} is declared as {declared}, without a fixed size"
            raise BundleError(message, "export it with a fixed input size")
        dtype = TORCH_DTYPES.get(declared.dtype.name)
        return Result(output.name, self.add(output.name), declared, dtype, declared.shape)

    def _check_new(self, name: str) -> None:
        if name in self.slots or name in self.constants:
            raise BundleError(f"the program defines {shown(name)} twice", EXPORT_AGAIN)

    def outputs(self, package: Package) -> dict[str, int]:
        """Return the slot of each of the program's outputs, by name."""
        computed = set(package.block.outputs)
        for feature in package.computed:
            if feature.name not in computed or feature.name not in self.slots:
                message = f"the program does not compute the model's output {shown(feature.name)}"
                raise BundleError(message, EXPORT_AGAIN)
        return {feature.name: self.slots[feature.name] for feature in package.computed}


def _step(name: str, known: Operator, arguments: dict[str, Any], results: tuple[Result, ...]) -> Step:
    tensors = [
        value
        for parameter, kind in known.parameters.items()
        if kind in (Tensor, list[Tensor]) and parameter in arguments
        for value in (arguments[parameter] if kind == list[Tensor] else [arguments[parameter]])
    ]
    first = tensors[0] if tensors else torch.empty(0)
    constants = {key: value for key, value in arguments.items() if not isinstance(value, Slot | list)}
    return Step(
        operation=name,
        function=known.function,
        constants=widened(constants) if known.rounded else constants,
        slots=tuple((key, value.index) for key, value in arguments.items() if isinstance(value, Slot)),
        lists=tuple(
            (key, tuple(item.index if isinstance(item, Slot) else item for item in value))
            for key, value in arguments.items()
            if isinstance(value, list)
        ),
        rounded=known.rounded,
        first=first.index if isinstance(first, Slot) else first.dtype,
        results=results,
        frees=(),
    )


def _folded(known: Operator, arguments: dict[str, Any], where: str) -> NDArray[Any]:
    try:
        folded: NDArray[Any] = known.function(**arguments)
    except Exception as error:  # numpy raises errors of several types for unsuitable shapes and indices
        raise BundleError(f"{where} cannot be computed ({shown(error)})", EXPORT_AGAIN) from error
    return folded


def _fits(value: Constant, declared: TensorType | OtherType) -> bool:
    if isinstance(value, tuple):
        return isinstance(declared, OtherType) or declared.dtype.name == "string"
    if not isinstance(declared, TensorType):
        return False
    return (declared.shape, np.dtype(declared.dtype.numpy)) == (value.shape, value.dtype)
