"""Write the valid seeds of the corpus again: `python -m tests.fuzz.seeds`. Inputs of findings are kept."""

import io
import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import safetensors.torch
import torch
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

from cloformer_deploy.data import Preprocessing
from cloformer_deploy.data.calibration_making import make_calibration
from cloformer_deploy.progress import Silent
from tests.backends.coreml.interpreter.coreml_programs import MODEL, WEIGHTS, build, build_pipeline
from tests.bundle.small_bundles import head
from tests.fuzz.targets import CORPUS

STEM, GATE = "patch_embed.conv1.conv.0.weight", "layers.0.blocks.0.attn.qkvs.0.weight"
STATE = {STEM: torch.zeros(16, 3, 3, 3, dtype=torch.float16), GATE: torch.zeros(2, 2)}


class Module(torch.nn.Module):
    """A network whose state dict has a name that CloFormer's has."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = torch.nn.ModuleDict({"conv1": torch.nn.ModuleDict({"conv": torch.nn.Conv2d(3, 2, 1)})})
        self.window_size = 7


def weights() -> dict[str, bytes]:
    """Return weights files of each format."""
    deep = {"model": {f"module.{name}": value for name, value in STATE.items()}, "epoch": 3, "config": {"depths": [2]}}
    old, new, whole = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save(deep, old, _use_new_zipfile_serialization=False)
    torch.save(deep, new)
    torch.save(Module(), whole)
    found = {"legacy": old.getvalue(), "zip": new.getvalue(), "plain": pickle.dumps({"a": [1, (2, None)]}, 2)}
    for name, archive in (("pickle", new), ("module", whole)):
        start = archive.getvalue().index(b"\x80\x02")
        found[name] = b"pkl:" + archive.getvalue()[start : archive.getvalue().index(b"PK\x03\x04", start)]
    told = {"labels": '["a", "b"]', "architecture": '{"depths": [2, 2, 6, 2]}', "task": "classification"}
    return {**found, "safetensors": safetensors.torch.save(STATE, told)}


def manifests() -> dict[str, bytes]:
    """Return a bundle's manifest, a baseline and a configuration of the gate."""
    known = {"format": "onnx", "precision": "fp32", "target": "cpu", "sha256": "0" * 64, "bytes": 9}
    interface = {"input": {"kind": "tensor", "batch": 1}, "options": {"opset": 17}, "created_with": {"onnx": "1"}}
    output = {"name": "logits", "shape": ["batch", 2], "dtype": "float32"}
    bundle = json.loads(head().model_dump_json())
    bundle["artifacts"] = [{"path": "a.onnx", **known, **interface, "outputs": [output]}]
    baseline = {
        "schema_version": 2,
        "tool_version": "1",
        "task": "classification",
        "weights_sha256": "0" * 64,
        "images": ["0" * 16] * 2,
        "artifacts": [{**known, "operators": 3, "sqnr_ci95_db": [1.0, 2.0], "evidence": "00ff00ff"}],
    }
    drift = '[defaults]\ndrop_pp = 0.5\n[[limits]]\nformat = "coreml"\nprecision = "int8"\nnot_executed = "allow"\n'
    return {"bundle": json.dumps(bundle).encode(), "baseline": json.dumps(baseline).encode(), "drift": drift.encode()}


def calibration() -> dict[str, bytes]:
    """Return a calibration set of one image."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "set.safetensors")
        make_calibration("rendered", 1, 0, Preprocessing.published(32, 32), path, Silent())
        return {"one-image": path.read_bytes()}


def mlpackage() -> dict[str, bytes]:
    """Return a convolution, an addition of weights with a palette, and a detector's pipeline."""

    def plain(mb: Any, x: Any) -> Any:
        weight = np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1)
        return mb.relu(x=mb.conv(x=x, weight=weight, name="conv"), name="out")

    def palette(mb: Any, x: Any) -> Any:
        table, indices = np.arange(4, dtype=np.float32), np.arange(16, dtype=np.uint8)
        weight = mb.constexpr_lut_to_dense(lut=table, indices=indices, shape=np.array([1, 64], np.uint32))
        return mb.add(x=x, y=weight, name="out")

    return {
        "conv": _package(lambda path: build(path, plain, [(1, 3, 2, 2)])),
        "palette": _package(lambda path: build(path, palette, [(1, 64)], ios=16)),
        "pipeline": _package(lambda path: build_pipeline(path, 2, 3)),
    }


def _package(make: Callable[[Path], Path]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder, "a.mlpackage"))
        parts = [(path / name).read_bytes() for name in ("Manifest.json", MODEL)]
        stored = (path / WEIGHTS).read_bytes() if (path / WEIGHTS).exists() else b""
    return b"".join([*(len(part).to_bytes(2, "little") for part in parts), *parts, stored])


def tflite() -> dict[str, bytes]:
    """Return a fully connected layer of int8 weights, with a reshape, metadata and a signature."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description = 3, "seed"
    weight = schema.BufferT()
    weight.data = np.arange(6, dtype=np.uint8)
    empty, note = schema.BufferT(), schema.BufferT()
    note.data = np.frombuffer(b'["a", "b"]', np.uint8)
    model.buffers = [empty, weight, note]
    entry = schema.MetadataT()
    entry.name, entry.buffer = "cloformer_deploy.labels", 2
    model.metadata = [entry]
    rows = (("image", [1, 3], 0, 0, None), ("weight", [2, 3], 9, 1, [0.5, 0.25]), ("logits", [1, 2], 0, 0, None))
    graph.tensors = [_tensor(*row) for row in (*rows, ("flat", [2], 0, 0, None))]
    graph.inputs, graph.outputs, graph.name = [0], [3], "main"
    codes = (schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.RESHAPE)
    model.operatorCodes = [_code(number) for number in codes]
    reshape = schema.ReshapeOptionsT()
    reshape.newShape = [2]
    dense = schema.FullyConnectedOptionsT()
    graph.operators = [
        _operator(0, [0, 1, -1], [2], schema.BuiltinOptions.FullyConnectedOptions, dense),
        _operator(1, [2], [3], schema.BuiltinOptions.ReshapeOptions, reshape),
    ]
    model.subgraphs = [graph]
    signature, given, got = schema.SignatureDefT(), schema.TensorMapT(), schema.TensorMapT()
    given.name, given.tensorIndex, got.name, got.tensorIndex = "image", 0, "logits", 3
    signature.inputs, signature.outputs, signature.signatureKey, signature.subgraphIndex = [given], [got], "serve", 0
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    whole = bytes(builder.Output())
    return {"dense": whole, "eight-bytes": b"\x18\0\0\0TFL3", "cut": whole[: len(whole) // 2]}


def _tensor(name: str, shape: list[int], kind: int, buffer: int, scale: list[float] | None) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
    if scale is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = scale, [0] * len(scale)
    return tensor


def _code(number: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = number
    code.version = 1
    return code


def _operator(code: int, inputs: list[int], outputs: list[int], kind: int, options: Any) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator


def onnx() -> dict[str, bytes]:
    """Return a quantized matrix product with a convolution's worth of attributes and metadata."""
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["floats"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["weights"]),
        helper.make_node("Gemm", ["floats", "weights"], ["logits"], transB=1),
        helper.make_node("Constant", [], ["unused"], value=helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])),
    ]
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("zero", TensorProto.INT8, [], [0]),
        helper.make_tensor("weight", TensorProto.INT8, [2, 3], b"\1\2\3\4\5\6", raw=True),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("image", 3), ("logits", 2))
    ]
    graph = helper.make_graph(nodes, "seed", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(
        model, {"cloformer_deploy.labels": '["a", "b"]', "cloformer_deploy.clipped": '{"image": 0.1}'}
    )
    return {"gemm": model.SerializeToString()}


def main() -> None:
    """Write all seeds."""
    for make in (weights, manifests, calibration, mlpackage, tflite, onnx):
        folder = CORPUS / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in make().items():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
