"""What in a program is unsafe in float16, found by running it: for the Neural Engine computes in nothing else.

Its sums may be accumulated in float16 too, and it takes subnormal numbers for zero; neither is documented, so a program
that depends on neither is the safe one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.backends.coreml.interpreter.interpreter import Program
from cloformer_deploy.backends.coreml.interpreter.steps import Step

LARGEST = float(np.finfo(np.float16).max)
SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
_SUMS = ("reduce_mean", "reduce_sum", "avg_pool")


@dataclass
class Float16Hazards:
    """What was seen; of a float32 program, what would happen were it float16. Tensors are named as in the program.

    Attributes:
        images: how many inputs were run.
        largest: the largest absolute value of any tensor, and where it is.
        overflows: tensors with values beyond 65504, or not finite.
        subnormal_constants: single numbers (an epsilon) below 6.1e-5, and not zero; but not rsqrt's own epsilon, a
            parameter that stays float32 (coremltools makes it 1e-12).
        longest_sum: terms of the longest mean or pooling.
        largest_sum: the largest sum of absolute values that a mean or pooling adds up, and where it is.
        overflowing_sums: those beyond 65504.
    """

    images: int = 0
    largest: tuple[float, str] = (0.0, "")
    overflows: list[str] = field(default_factory=list)
    subnormal_constants: list[str] = field(default_factory=list)
    longest_sum: int = 0
    largest_sum: tuple[float, str] = (0.0, "")
    overflowing_sums: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.overflows or self.subnormal_constants or self.overflowing_sums)


def float16_hazards(program: Program, inputs: Iterable[Mapping[str, NDArray[Any]]]) -> Float16Hazards:
    """Run a program on each of `inputs` (see `Program.run`) and look at every tensor.

    Raises:
        RequestError, ToolError: see `Program.run`.
    """
    found = Float16Hazards()
    demanded = {
        operation.inputs["epsilon"].arguments[0].name
        for operation in program.package.block.operations
        if operation.type == "rsqrt"
    }
    for name, value in program.constants.items():
        if value.size == 1 and 0 < abs(value.item()) < SMALLEST_NORMAL and name not in demanded:
            found.subnormal_constants.append(name)
    summed = {slot: step for step in program.plan.steps if step.operation in _SUMS for _, slot in step.slots}
    results = (result for step in program.plan.steps for result in step.results)
    watched = {result.name: summed[result.slot] for result in results if result.slot in summed}

    def observe(name: str, value: Tensor) -> None:
        if value.is_floating_point():
            _look_at_values(found, name, value)
            if name in watched:
                _look_at_sum(found, watched[name], value)

    for each in inputs:
        program.run(each, observe)
        found.images += 1
    return found


def _look_at_values(found: Float16Hazards, name: str, value: Tensor) -> None:
    largest = float(value.abs().max())
    found.largest = max(found.largest, (largest, name))
    # Not a number fails the comparison.
    if not largest <= LARGEST and name not in found.overflows:
        found.overflows.append(name)


def _look_at_sum(found: Float16Hazards, step: Step, value: Tensor) -> None:
    out: Tensor = step.function(**{**step.constants, "x": value.abs().float()})
    if step.operation == "avg_pool":
        terms = int(np.prod(step.constants["kernel_sizes"]))
    else:
        terms = value.numel() // out.numel()
    found.longest_sum = max(found.longest_sum, terms)
    total = float(out.max()) * (1 if step.operation == "reduce_sum" else terms)
    name = step.results[0].name
    found.largest_sum = max(found.largest_sum, (total, name))
    if not total <= LARGEST and name not in found.overflowing_sums:
        found.overflowing_sums.append(name)
