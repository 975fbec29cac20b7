"""Run a program on numpy arrays, operation by operation."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.backends.coreml.interpreter.package import Feature, Package
from cloformer_deploy.backends.coreml.interpreter.plan import Plan, make_plan
from cloformer_deploy.backends.coreml.interpreter.steps import Step
from cloformer_deploy.backends.coreml.interpreter.types import TORCH_DTYPES, TensorType
from cloformer_deploy.backends.package_files import shown
from cloformer_deploy.errors import RequestError, ToolError

Output: TypeAlias = NDArray[Any] | str | int | dict[str, float] | dict[int, float]
"""An output of a program: a tensor, a classifier's label, or its probabilities by label, in the order of the labels."""

Observer: TypeAlias = Callable[[str, Tensor], None]
"""A function that receives the name and value of each tensor when it is computed."""


class Program:
    """A loaded ML program: a reference for the results of Core ML, which runs on the CPU of any system.

    torch computes float32 operations. Float16 operations are emulated with one rounding per operation: the result
    is computed in float32 from float16 values and then rounded to float16, and to infinity beyond 65504. Core ML's
    own engines also round inside operations, so their results are not equal bit for bit. The time that a run takes
    says nothing about the speed of a device.

    Attributes:
        package: the description of the model: inputs, outputs, operators, metadata.
        plan: the program's steps.
        constants: the decoded float tensors of the file, by name; compressed ones are decompressed. Read-only.
    """

    def __init__(self, package: Package, plan: Plan) -> None:
        self.package = package
        self.plan = plan
        self.constants: Mapping[str, NDArray[Any]] = MappingProxyType(
            {name: _read_only(value) for name, value in plan.constants.items()}
        )

    @classmethod
    def load(cls, path: Path) -> "Program":
        """Read and check an `.mlpackage` folder without running its program.

        Raises:
            BundleError: the package is malformed, or has unsupported operations (the message lists all of them).
            MissingPartError: coremltools is not installed.
        """
        package = Package.load(path)
        return cls(package, make_plan(package))

    def run(self, inputs: Mapping[str, NDArray[Any]], observe: Observer | None = None) -> dict[str, Output]:
        """Compute the model's outputs.

        Args:
            inputs: an array for each input of the model, by name. A tensor input takes its declared shape and type;
                an input of a float type takes any float type and rounds it, as Core ML does. An image input takes
                RGB (1, 3, H, W), uint8 or floats in 0..255.
            observe: called with the name and value of each tensor, in the order of computation. The value has the
                declared type and must not be changed.

        Returns:
            Each output of the model, by name; of a pipeline also what its program gives to suppression.

        Raises:
            RequestError: the inputs are not those that the model declares.
            ToolError: an operation failed, or its output does not have the declared shape or type.
        """
        unexpected = sorted(set(inputs) ^ set(self.plan.inputs))
        if unexpected:
            got, expected = ", ".join(sorted(inputs)) or "none", ", ".join(sorted(self.plan.inputs))
            message = f"the model has the inputs {expected}, got {got}"
            raise RequestError(message, "pass one array for each input of the model, and no others")
        values: list[Any] = [None] * self.plan.size
        features = {feature.name: feature for feature in self.package.inputs}
        for name, (slot, kind) in self.plan.inputs.items():
            values[slot] = _input(features[name], kind, inputs[name])
        with torch.inference_mode():
            for step in self.plan.steps:
                _run(step, values, observe)
        found = {name: _output(values[slot]) for name, slot in self.plan.outputs.items()}
        suppression = self.package.suppression
        return found if suppression is None else {**found, **suppression.run(found)}


def _run(step: Step, values: list[Any], observe: Observer | None) -> None:
    where = f"{step.operation} {shown(step.results[0].name)}" if step.results else step.operation
    try:
        computed = step.compute(values)
    except Exception as error:  # torch raises errors of several types for arguments that do not match each other
        raise ToolError(f"{where} failed: {error}", "export the package again, or report this as a bug") from error
    if len(computed) != len(step.results):
        raise ToolError(
            f"{where} is declared with {len(step.results)} outputs, but computed {len(computed)}",
            "export the package again, or report this as a bug",
        )
    for result, value in zip(step.results, computed, strict=True):
        result.check(value, step.operation)
        values[result.slot] = value
        if observe is not None and isinstance(value, Tensor):
            observe(result.name, value)
    for slot in step.frees:
        values[slot] = None


def _input(feature: Feature, kind: TensorType, array: NDArray[Any]) -> Tensor:
    """Convert an input array to a tensor of the declared type."""
    expected = f"the input {shown(feature.name)} takes the {feature.kind} {feature.dtype}{list(kind.shape)}"
    mismatch = f"{expected}, got {array.dtype}{list(array.shape)}"
    if array.shape != kind.shape:
        raise RequestError(mismatch, f"pass an array of shape {kind.shape}")
    dtype = np.dtype(kind.dtype.numpy)
    if feature.kind == "image":
        if array.dtype != np.uint8 and array.dtype.kind != "f":
            raise RequestError(mismatch, "pass RGB pixels as uint8, or as floats in 0..255")
        # Written so that NaN, for which every comparison is false, is rejected too.
        if not (array.min() >= 0 and array.max() <= 255):
            raise RequestError(
                f"the image {shown(feature.name)} has values from {array.min()} to {array.max()}, expected 0..255",
                "pass RGB pixels; the model normalizes them itself",
            )
    elif array.dtype != dtype and not (array.dtype.kind == dtype.kind == "f"):
        raise RequestError(mismatch, f"convert the array to {dtype}")
    # The array is copied because torch warns about read-only memory, and because an output may be a view of an input.
    with np.errstate(over="ignore"):
        copy = np.array(array, dtype, order="C")
    return torch.from_numpy(copy).to(TORCH_DTYPES[kind.dtype.name])


def _output(value: Any) -> Output:
    if not isinstance(value, Tensor):
        output: Output = value
        return output
    # The array is copied because it may be a view of a constant.
    return np.array(value.numpy())


def _read_only(value: NDArray[Any]) -> NDArray[Any]:
    view = value.view()
    view.flags.writeable = False
    return view
