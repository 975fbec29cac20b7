"""The file formats and the runtimes that execute them."""

from pathlib import Path

from cloformer_deploy.backends.base import Format, Runtime, TensorReader
from cloformer_deploy.backends.coreml import tensors as coreml_tensors
from cloformer_deploy.backends.coreml.format import CoreMLFormat
from cloformer_deploy.backends.coreml.runtime import CoreML, CoreMLInterpreter
from cloformer_deploy.backends.onnx import tensors as onnx_tensors
from cloformer_deploy.backends.onnx.format import OnnxFormat
from cloformer_deploy.backends.onnx.runtime import OnnxRuntime
from cloformer_deploy.backends.tflite import tensors as tflite_tensors
from cloformer_deploy.backends.tflite.format import TFLiteFormat
from cloformer_deploy.backends.tflite.runtime import LiteRT
from cloformer_deploy.errors import BundleError
from cloformer_deploy.quantization.recipes import RECIPES

FORMATS: dict[str, Format] = {item.name: item for item in (OnnxFormat(), CoreMLFormat(), TFLiteFormat())}
FLOATS = ("fp32", "fp16")
PRECISIONS = (*FLOATS, *dict.fromkeys(precision for recipes in RECIPES.values() for precision in recipes))
"""All precisions of all targets; `RECIPES` says which of the quantized ones a target has."""
RUNTIMES: dict[str, Runtime] = {item.name: item for item in (OnnxRuntime(), LiteRT(), CoreML(), CoreMLInterpreter())}
_READERS = {
    "onnx": onnx_tensors.open_tensors,
    "tflite": tflite_tensors.open_tensors,
    "coreml": coreml_tensors.open_tensors,
}


def format_of(path: Path) -> Format:
    """The format a file's suffix names.

    Raises:
        BundleError: the suffix is of no known format.
    """
    for item in FORMATS.values():
        if path.suffix == item.suffix:
            return item
    known = ", ".join(item.suffix for item in FORMATS.values())
    raise BundleError(f"{path} is no artifact: its suffix is none of {known}", "give an exported file or a bundle")


def runtime_for(format_name: str) -> Runtime:
    """The runtime that executes a format on this machine: the first that lacks nothing, else the last."""
    candidates = [runtime for runtime in RUNTIMES.values() if runtime.format == format_name]
    return next((runtime for runtime in candidates if runtime.missing() is None), candidates[-1])


def open_tensors(format_name: str, path: Path) -> TensorReader:
    """Load a file of a format so that every tensor it computes can be read.

    Raises:
        MissingPartError: the runtime is not installed.
        BundleError: the file is damaged.
        ToolError: the runtime cannot run it.
    """
    return _READERS[format_name](path)
