"""Running a program on numpy arrays, operation by operation."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.backends.coreml.interpreter.files import shown
from cloformer_deploy.backends.coreml.interpreter.package import Feature, Package
from cloformer_deploy.backends.coreml.interpreter.plan import Plan, make_plan
from cloformer_deploy.backends.coreml.interpreter.steps import Step
from cloformer_deploy.backends.coreml.interpreter.types import TORCH_DTYPES, TensorType
from cloformer_deploy.errors import RequestError, ToolError

Output: TypeAlias = NDArray[Any] | str | int | dict[str, float] | dict[int, float]
"""A tensor; or a classifier's label, or its probabilities by label, in the order of the classes."""

Observer: TypeAlias = Callable[[str, Tensor], None]
"""Is told the name and value of every tensor as it is computed."""


class Program:
    """A loaded program: a reference for Core ML's results, on any system and the CPU alone.

    Float32 operations are computed by torch. Float16 operations are emulated with one rounding for each
    operation: computed in float32 from float16 values, and the result rounded to float16 (beyond 65504 to
    infinity). Core ML's own engines round inside operations as well, so equality to the bit is not to be
    expected of them. Values, and so the time they take, say nothing about speed on a device.

    Attributes:
        package: the description of the model: inputs, outputs, operators, metadata.
        plan: its steps.
        constants: the float tensors of the file by name, decoded; those stored in few bits, decompressed.
    """

    def __init__(self, package: Package, plan: Plan) -> None:
        self.package = package
        self.plan = plan
        self.constants: Mapping[str, NDArray[Any]] = MappingProxyType(
            {name: _read_only(value) for name, value in plan.constants.items()}
        )

    @classmethod
    def load(cls, path: Path) -> "Program":
        """Read and check a `.mlpackage` folder; nothing is run yet.

        Raises:
            BundleError: the package is malformed, or has operations the interpreter does not know (all named).
            MissingPartError: coremltools is not installed.
        """
        package = Package.load(path)
        return cls(package, make_plan(package))

    def run(self, inputs: Mapping[str, NDArray[Any]], observe: Observer | None = None) -> dict[str, Output]:
        """Compute the model's outputs.

        Args:
            inputs: an array for each input of the model. For a tensor: of its shape, floats of any width
                for a float type (rounded to it, as Core ML does), else exactly its type. For an image:
                RGB, (1, 3, H, W), uint8 or floats in 0..255.
            observe: is called with the name and value of every tensor, in the order of computation; the
                value is of the declared type and must not be changed.

        Raises:
            RequestError: the inputs are not what the model declares.
            ToolError: an operation failed, or its output is not of the shape or type the file declares.
        """
        unexpected = sorted(set(inputs) ^ set(self.plan.inputs))
        if unexpected:
            got, expected = ", ".join(sorted(inputs)) or "none", ", ".join(sorted(self.plan.inputs))
            raise RequestError(f"the model has the inputs {expected}, got {got}", "pass exactly the model's inputs")
        values: list[Any] = [None] * self.plan.size
        features = {feature.name: feature for feature in self.package.inputs}
        for name, (slot, kind) in self.plan.inputs.items():
            values[slot] = _input(features[name], kind, inputs[name])
        with torch.inference_mode():
            for step in self.plan.steps:
                _run(step, values, observe)
        return {name: _output(values[slot]) for name, slot in self.plan.outputs.items()}


def _run(step: Step, values: list[Any], observe: Observer | None) -> None:
    where = f"{step.operation} {shown(step.results[0].name)}" if step.results else step.operation
    try:
        computed = step.compute(values)
    except Exception as error:  # whatever torch raises for arguments that do not fit one another
        raise ToolError(f"{where} failed: {error}", "export the package again, or report this") from error
    if len(computed) != len(step.results):
        raise ToolError(
            f"{where} is declared with {len(step.results)} outputs, but computed {len(computed)}",
            "export the package again, or report this",
        )
    for result, value in zip(step.results, computed, strict=True):
        result.check(value, step.operation)
        values[result.slot] = value
        if observe is not None and isinstance(value, Tensor):
            observe(result.name, value)
    for slot in step.frees:
        values[slot] = None


def _input(feature: Feature, kind: TensorType, array: NDArray[Any]) -> Tensor:
    expected = f"{feature.dtype}{list(kind.shape)}"
    wanted = f"the input {shown(feature.name)} is {feature.kind} {expected}, got {array.dtype}{list(array.shape)}"
    if array.shape != kind.shape:
        raise RequestError(wanted, f"pass an array of shape {kind.shape}")
    dtype = np.dtype(kind.dtype.numpy)
    if feature.kind == "image":
        if array.dtype != np.uint8 and array.dtype.kind != "f":
            raise RequestError(wanted, "pass RGB pixels as uint8, or as floats in 0..255")
        # NaN fails the comparison too.
        if not (array.min() >= 0 and array.max() <= 255):
            raise RequestError(
                f"the image {shown(feature.name)} has values from {array.min()} to {array.max()}, not in 0..255",
                "pass RGB pixels; the model normalizes them itself",
            )
    elif array.dtype != dtype and not (array.dtype.kind == dtype.kind == "f"):
        raise RequestError(wanted, f"convert it to {dtype}")
    # A copy: torch warns of read-only memory, and an output may be a view of its input.
    with np.errstate(over="ignore"):
        copy = np.array(array, dtype, order="C")
    return torch.from_numpy(copy).to(TORCH_DTYPES[kind.dtype.name])


def _output(value: Any) -> Output:
    if not isinstance(value, Tensor):
        output: Output = value
        return output
    # A copy: it may be a view of a constant.
    return np.array(value.numpy())


def _read_only(value: NDArray[Any]) -> NDArray[Any]:
    view = value.view()
    view.flags.writeable = False
    return view
