"""Core ML's compute plan: the unit that each operator of a package runs on, as a Mac's Core ML has planned it.

Source: `coremltools.models.compute_plan`, which exists on macOS 14.4 and later. The tests, which run on Linux, have
never executed it.
"""

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cloformer_deploy.errors import ToolError

_UNITS = {"MLNeuralEngineComputeDevice": "NPU", "MLCPUComputeDevice": "CPU", "MLGPUComputeDevice": "GPU"}


def is_there() -> bool:
    """Tell whether this machine can make compute plans."""
    return platform.system() == "Darwin"


def units(path: Path) -> Mapping[str, str]:
    """Return NPU, GPU or CPU for each operator of a package by the name of its first output, asking for CPU and NPU.

    Raises:
        ToolError: Core ML cannot compile the package or plan it.
    """
    import coremltools
    from coremltools.models.compute_plan import MLComputePlan

    asked = coremltools.ComputeUnit.CPU_AND_NE
    try:
        model = coremltools.models.MLModel(str(path), compute_units=asked)
        plan = MLComputePlan.load_from_path(path=model.get_compiled_model_path(), compute_units=asked)
        program = plan.model_structure.program
        if program is None:
            raise ToolError(f"{path} is a pipeline, of which Core ML makes no plan", "place its classifier or detector")
        return dict(_planned(plan, program.functions["main"].block.operations))
    except RuntimeError as error:
        raise ToolError(f"Core ML cannot plan {path}: {error}", "see whether Xcode opens it") from error


def _planned(plan: Any, operations: Any) -> Iterator[tuple[str, str]]:
    for item in operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(item)
        if usage is not None and item.outputs:
            yield item.outputs[0].name, _UNITS[type(usage.preferred_compute_device).__name__]
