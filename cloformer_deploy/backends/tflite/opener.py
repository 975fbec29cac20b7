"""Opens TFLite files on a device for `bench`; stand-alone, for Python 3.8 and later (see `backends.base.Opener`)."""

# ruff: noqa: UP006, UP035, UP045 - Python 3.8 has no `dict[str, Any]` or `str | None`
import importlib
from typing import Any, Callable, Dict, Optional

MODULES = ("ai_edge_litert", "tflite_runtime")


def open_file(path: str, threads: int, unit: Optional[str]) -> Callable[[Dict[str, Any]], Dict[str, Any]]:  # noqa: ARG001
    """Load a file; the returned function takes and gives arrays by name, in the file's own layout (NHWC)."""
    interpreter = _runtime().Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    inputs = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    outputs = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}

    def run(feed: Dict[str, Any]) -> Dict[str, Any]:
        for name, values in feed.items():
            interpreter.set_tensor(inputs[name], values)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in outputs.items()}

    return run


def _runtime() -> Any:
    for module in MODULES[:-1]:
        try:
            return importlib.import_module(module + ".interpreter")
        except ImportError:
            continue
    return importlib.import_module(MODULES[-1] + ".interpreter")
