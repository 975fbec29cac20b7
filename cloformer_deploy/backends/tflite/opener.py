"""Opens TFLite files on a device for `bench`; stand-alone, for Python 3.8 and later (see `backends.base.Opener`)."""

# ruff: noqa: UP006, UP035, UP045 - Python 3.8 has no `dict[str, Any]` or `str | None`
import importlib
from typing import Any, Callable, Dict, Optional

MODULES = ("ai_edge_litert", "tflite_runtime")


def open_file(path: str, threads: int, unit: Optional[str]) -> Callable[[Dict[str, Any]], Dict[str, Any]]:  # noqa: ARG001
    """Load a file; the returned function takes and gives arrays by name, in the file's own layout (NHWC)."""
    interpreter = _runtime().Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
    outputs = {detail["name"]: detail for detail in interpreter.get_output_details()}

    def run(feed: Dict[str, Any]) -> Dict[str, Any]:
        for name, values in feed.items():
            interpreter.set_tensor(inputs[name]["index"], _stored(values, inputs[name]))
        interpreter.invoke()
        return {name: _numbers(interpreter.get_tensor(detail["index"]), detail) for name, detail in outputs.items()}

    return run


def _stored(values: Any, detail: Dict[str, Any]) -> Any:
    """Return floats as a tensor with a scale and a zero point stores them; this takes part in the measured time."""
    scale, zero_point = detail["quantization"]
    if not scale or values.dtype.kind != "f":
        return values
    import numpy as np

    limits = np.iinfo(detail["dtype"])
    return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])


def _numbers(values: Any, detail: Dict[str, Any]) -> Any:
    """Return what a tensor stores as the numbers that it stands for, float32."""
    scale, zero_point = detail["quantization"]
    return (values.astype("float32") - zero_point) * scale if scale else values


def _runtime() -> Any:
    for module in MODULES[:-1]:
        try:
            return importlib.import_module(module + ".interpreter")
        except ImportError:
            continue
    return importlib.import_module(MODULES[-1] + ".interpreter")
