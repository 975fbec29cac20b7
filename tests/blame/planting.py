"""Faults planted in the weights of real files: the output channels of one layer are rotated by one."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def plant(path: Path, layer: str, weight: NDArray[np.float32]) -> None:
    """Rotate the output channels of a layer's weights by one, in place.

    Args:
        path: a file of any format.
        layer: its module's path; ONNX and Core ML files name weights after it.
        weight: of that layer, PyTorch's, by which a TFLite or Core AI file's are recognized.
    """
    {".onnx": _onnx, ".tflite": _tflite, ".mlpackage": _coreml, ".aimodel": _coreai}[path.suffix](path, layer, weight)


def _onnx(path: Path, layer: str, weight: NDArray[np.float32]) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    # With an image input the model is a submodule of others.
    named = re.compile(rf"(model\.)*{re.escape(layer)}\.weight(_quantized)?")
    (stored,) = (item for item in model.graph.initializer if named.fullmatch(item.name))
    stored.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(stored), 1, axis=0), stored.name))
    path.unlink()
    onnx.save(model, path)


def _tflite(path: Path, layer: str, weight: NDArray[np.float32]) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    wanted = weight.transpose(1, 2, 3, 0) if weight.shape[1] == 1 else weight.transpose(0, 2, 3, 1)
    axis = -1 if weight.shape[1] == 1 else 0
    stored = {
        item.buffer: item
        for item in model.subgraphs[0].tensors
        if tuple(item.shape) == wanted.shape and model.buffers[item.buffer].data is not None
    }

    def likeness(item: Any) -> float:
        return float(np.corrcoef(_numbers(model, item).ravel(), wanted.ravel())[0, 1])

    item = max(stored.values(), key=likeness)
    assert likeness(item) > 0.9, layer
    moved = np.roll(_numbers(model, item), 1, axis=axis)
    model.buffers[item.buffer].data = np.frombuffer(moved.tobytes(), np.uint8)
    path.unlink()
    flatbuffer_utils.write_model(model, str(path))


def _numbers(model: Any, item: Any) -> NDArray[Any]:
    from ai_edge_litert import schema_py_generated as schema

    dtype = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT8: np.int8}[item.type]
    return np.frombuffer(bytes(model.buffers[item.buffer].data), dtype).reshape(item.shape)


def _coreml(path: Path, layer: str, weight: NDArray[np.float32]) -> None:
    """Change the blob in place; the header at its offset is: sentinel, element type, number of bytes, their offset."""
    from cloformer_deploy.backends.coreml.interpreter import Package

    package = Package.load(path)
    # With an image input the model is a submodule of others.
    own = re.compile(rf"p_(model_)*{layer.replace('.', '_')}_weight")
    (made,) = (
        item
        for item in package.block.operations
        if item.type in ("const", "constexpr_affine_dequantize") and own.match(item.outputs[0].name)
    )
    stored = made.attributes["val" if made.type == "const" else "quantized_data"].blobFileValue
    file = next(path.rglob(Path(stored.fileName).name))
    content = bytearray(file.read_bytes())
    header = np.frombuffer(content, np.uint64, 3, stored.offset)
    size, start = int(header[1]), int(header[2])
    one = size // len(weight)
    blob = content[start : start + size]
    content[start : start + size] = blob[-one:] + blob[:-one]
    file.unlink()
    file.write_bytes(content)


def _coreai(path: Path, layer: str, weight: NDArray[np.float32]) -> None:
    """Find the weights by their values, which names do not tell."""
    from benchmarks.faults.files import open_coreai

    stored, save = open_coreai(path)
    same = [item.weight for item in stored if item.weight.shape == weight.shape]

    def likeness(values: NDArray[Any]) -> float:
        return float(np.corrcoef(values.astype(np.float64).ravel(), weight.ravel())[0, 1])

    found = max(same, key=likeness)
    assert likeness(found) > 0.9, layer
    found[...] = np.roll(found, 1, axis=0)
    save()


def weight_of(model: torch.nn.Module, layer: str) -> NDArray[np.float32]:
    """Return a layer's weights, (outputs, inputs of a group, rows, columns)."""
    return model.get_parameter(f"{layer}.weight").detach().numpy()
