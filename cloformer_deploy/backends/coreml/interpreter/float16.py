"""Find the float16 hazards of a program by running it, because the Neural Engine computes in float16 only.

The Neural Engine may also accumulate sums in float16, and flushes subnormal numbers to zero. Neither is documented, so
a program is safe only if it depends on neither.
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
"""The largest finite float16 number, 65504."""

SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
"""The smallest normal float16 number, 2**-14 or about 6.1e-5."""

_SUM_OPERATIONS = ("reduce_mean", "reduce_sum", "avg_pool")


@dataclass
class Float16Hazards:
    """The hazards found in a program; for a float32 program, those that it would have in float16.

    Tensors are named as in the program.

    Attributes:
        images: the number of inputs that were run.
        largest: the largest absolute value of any tensor, and the name of that tensor.
        overflows: the tensors with values that are beyond 65504 or not finite.
        subnormal_constants: the constants of one element, such as an epsilon, whose absolute value is below 6.1e-5 but
            not zero. The epsilon of `rsqrt` is excluded: it is a parameter that stays float32 (1e-12 by default).
        longest_sum: the number of terms of the longest sum, mean or average pooling.
        largest_sum: the largest sum of absolute values in a sum, mean or average pooling, and the name of its result.
        overflowing_sums: the results of the operations whose sum of absolute values is beyond 65504.
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
        """True if the program has any hazard."""
        return bool(self.overflows or self.subnormal_constants or self.overflowing_sums)


def float16_hazards(program: Program, inputs: Iterable[Mapping[str, NDArray[Any]]]) -> Float16Hazards:
    """Run a program on each of the inputs and check all constants and computed tensors.

    Args:
        program: a float32 or float16 program.
        inputs: the arguments of `Program.run`, one mapping per run.

    Raises:
        RequestError: the inputs are not those that the model declares.
        ToolError: an operation failed, or its output does not have the declared shape or type.
    """
    found = Float16Hazards()
    rsqrt_epsilons = {
        operation.inputs["epsilon"].arguments[0].name
        for operation in program.package.block.operations
        if operation.type == "rsqrt"
    }
    for name, value in program.constants.items():
        if value.size == 1 and 0 < abs(value.item()) < SMALLEST_NORMAL and name not in rsqrt_epsilons:
            found.subnormal_constants.append(name)
    # The observer sees a sum's result only, so the sum of absolute values is computed when its input is observed.
    sum_steps = {
        slot: step for step in program.plan.steps if step.operation in _SUM_OPERATIONS for _, slot in step.slots
    }
    results = (result for step in program.plan.steps for result in step.results)
    sum_inputs = {result.name: sum_steps[result.slot] for result in results if result.slot in sum_steps}

    def observe(name: str, value: Tensor) -> None:
        if value.is_floating_point():
            _check_values(found, name, value)
            if name in sum_inputs:
                _check_sum(found, sum_inputs[name], value)

    for each in inputs:
        program.run(each, observe)
        found.images += 1
    return found


def _check_values(found: Float16Hazards, name: str, value: Tensor) -> None:
    """Record the values of a computed tensor."""
    largest = float(value.abs().max())
    found.largest = max(found.largest, (largest, name))
    # Written so that NaN, for which every comparison is false, counts as an overflow.
    if not largest <= LARGEST and name not in found.overflows:
        found.overflows.append(name)


def _check_sum(found: Float16Hazards, step: Step, value: Tensor) -> None:
    """Record the sum of absolute values that `step` adds up, given its input `value`."""
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
