"""The file formats: one module each behind the Protocol `Format`, in one registry."""

from pathlib import Path

from cloformer_deploy.errors import BundleError
from cloformer_deploy.formats.base import Description, Format, Graph, InputKind, QuantizedTensor, TensorInfo
from cloformer_deploy.formats.coreml import CoreMLFormat
from cloformer_deploy.formats.onnx import OnnxFormat
from cloformer_deploy.formats.tflite import TFLiteFormat
from cloformer_deploy.quantization.recipes import RECIPES

FORMATS: dict[str, Format] = {item.name: item for item in (OnnxFormat(), CoreMLFormat(), TFLiteFormat())}
FLOATS = ("fp32", "fp16")
PRECISIONS = (*FLOATS, *dict.fromkeys(precision for recipes in RECIPES.values() for precision in recipes))
"""All there are; which of those with integers a format has for a target, `RECIPES` says."""


def format_of(path: Path) -> Format:
    """The format a file's suffix names.

    Raises:
        BundleError: the suffix is of no known format.
    """
    for item in FORMATS.values():
        if path.suffix == item.suffix:
            return item
    known = ", ".join(item.suffix for item in FORMATS.values())
    raise BundleError(f"{path} is no artefact: its suffix is none of {known}", "give an exported file or a bundle")


__all__ = [
    "FLOATS",
    "FORMATS",
    "PRECISIONS",
    "Description",
    "Format",
    "Graph",
    "InputKind",
    "QuantizedTensor",
    "TensorInfo",
    "format_of",
]
