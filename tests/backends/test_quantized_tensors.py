"""Integer tensors listed for small graphs of known grids, and files that list none."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cloformer_deploy.backends.coreml.describe import integers as coreml_integers
from cloformer_deploy.backends.coreml.interpreter import Package
from cloformer_deploy.backends.description import QuantizedTensor
from cloformer_deploy.backends.onnx.describe import integers as onnx_integers
from cloformer_deploy.backends.quantized_tensors import clipped_shares
from cloformer_deploy.backends.registry import backend_of
from cloformer_deploy.backends.tflite.describe import integers as tflite_integers
from cloformer_deploy.backends.tflite.quantize import _finished
from cloformer_deploy.bundle.bundle import Bundle
from tests.backends.coreml.interpreter.coreml_programs import build

pytestmark = pytest.mark.integration

Value = NDArray[Any] | np.generic | TensorProto | None
WEIGHT = QuantizedTensor("w", "int8", True, (0.25, 0.5), 2, 0, -64.0, 63.5, None)


def onnx_model(changes: dict[str, Value] | None = None) -> onnx.ModelProto:
    """x to uint8 and back, and weights of two channels; the weights' scale is a node, as some exporters have it."""
    nodes = [
        helper.make_node("Constant", [], ["ws"], value=numpy_helper.from_array(np.array([0.25, 0.5], np.float32))),
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["wd"], axis=0),
    ]
    values: dict[str, Value] = {
        "s": np.float32(0.5),
        "z": np.uint8(3),
        "w": np.ones((2, 4), np.int8),
        **(changes or {}),
    }
    tensors = [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        for name, value in values.items()
        if value is not None
    ]
    return helper.make_model(helper.make_graph(nodes, "g", [], [], tensors))


def test_onnx() -> None:
    assert onnx_integers(onnx_model(), {"x": 0.125, "w": 0.5, "other": 1.0}) == (
        QuantizedTensor("x", "uint8", False, (0.5, 0.5), 1, 3, -1.5, 126.0, 0.125),
        QuantizedTensor("w", "int8", True, (0.25, 0.5), 2, 0, -64.0, 63.5, 0.5),
    )


UNTOLD = QuantizedTensor("x", "uint8", False, None, 0, None, None, None, None)
CUT_SHORT = TensorProto(name="s", data_type=TensorProto.FLOAT, dims=[3], raw_data=b"ab")
TEXTS = TensorProto(name="s", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"])
UNKNOWN = TensorProto(name="s", data_type=99, dims=[1], raw_data=b"ab")
FLOAT8 = TensorProto(name="z", data_type=TensorProto.FLOAT8E4M3FN, dims=[], raw_data=b"\0")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"s": None}, UNTOLD),
        ({"s": CUT_SHORT}, UNTOLD),
        ({"s": TEXTS}, UNTOLD),
        ({"s": UNKNOWN}, UNTOLD),
        ({"s": np.zeros(0, np.float32)}, UNTOLD),
        ({"z": np.zeros(3, np.uint8)}, UNTOLD),
        ({"z": None}, QuantizedTensor("x", "uint8", False, (0.5, 0.5), 1, 0, 0.0, 127.5, None)),
        ({"s": np.float32("nan")}, QuantizedTensor("x", "uint8", False, None, 1, 3, None, None, None)),
        ({"s": np.float32("inf")}, QuantizedTensor("x", "uint8", False, None, 1, 3, None, None, None)),
        ({"z": FLOAT8}, QuantizedTensor("x", "float8e4m3fn", False, (0.5, 0.5), 1, 0, None, None, None)),
        (
            {"s": np.ones(2, np.float32), "z": np.arange(2, dtype=np.uint8)},
            QuantizedTensor("x", "uint8", False, (1.0, 1.0), 2, None, -1.0, 255.0, None),
        ),
    ],
    ids=["missing", "cut-short", "texts", "unknown", "empty", "zeros-3", "no-zero", "nan", "inf", "float8", "channels"],
)
def test_what_an_onnx_file_does_not_tell(changes: Any, expected: QuantizedTensor) -> None:
    assert onnx_integers(onnx_model(changes), {})[0] == expected


@pytest.mark.parametrize(
    "told",
    [None, "text", [0.1], {"x": "1"}, {"x": True}, {"x": -0.1}, {"x": 2}, {"x": None}, {"x": [0.1]}],
    ids=str,
)
def test_shares_that_are_none(told: Any) -> None:
    assert clipped_shares({"clipped": told}) == {}


def test_shares() -> None:
    assert clipped_shares({"clipped": {"x": 0, "y": 1e-5, "z": "?"}}) == {"x": 0.0, "y": 1e-5}
    assert clipped_shares({}) == {}


def tflite_model() -> Any:
    """Tensors as the quantizer leaves them: weights, one that is computed in integers, one that becomes some."""
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, kind: int, buffer: int, scale: list[float], zero_point: list[int]) -> Any:
        made = schema.TensorT()
        made.name, made.type, made.shape, made.buffer = name.encode(), kind, [2, 3], buffer
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = scale, zero_point
        return made

    types = schema.TensorType
    model, graph = schema.ModelT(), schema.SubGraphT()
    weights = schema.BufferT()
    weights.data = [1] * 6
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT(), weights], [graph]
    graph.operators = []
    graph.tensors = [
        tensor("w", types.INT8, 1, [0.25, 0.5], [0, 0]),
        tensor("planned:a:1", types.INT8, 0, [0.5], [-128]),
        tensor("planned:a:1_dequant", types.FLOAT32, 0, [], []),
        tensor("b:2", types.FLOAT32, 0, [], []),
        tensor("b:2_quantized", types.INT16, 0, [2.0], [0]),
    ]
    return model


def test_tflite() -> None:
    found = tflite_integers(tflite_model(), {"planned:a:1": 0.5})
    assert found == (
        WEIGHT,
        QuantizedTensor("planned:a:1", "int8", False, (0.5, 0.5), 1, -128, 0.0, 127.5, 0.5),
        QuantizedTensor("b:2_quantized", "int16", False, (2.0, 2.0), 1, 0, -65536.0, 65534.0, None),
    )


def test_a_finished_tflite_file_has_no_trace_of_the_plan_and_its_own_names_for_the_shares() -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    content = bytes(flatbuffer_utils.convert_object_to_bytearray(tflite_model()))
    finished, clipped = _finished(content, {"a:1": 0.25, "b:2": 0.125, "gone:9": 0.5})
    assert clipped == {"a:1": 0.25, "b:2_quantized": 0.125}
    names = [tensor.name for tensor in flatbuffer_utils.read_model_from_bytearray(finished).subgraphs[0].tensors]
    assert names == [b"w", b"a:1", b"a:1_dequant", b"b:2", b"b:2_quantized"]


def constexpr(mb: Any) -> list[Any]:
    """Weights of two channels as iOS 17 has them, and a palette of four values."""
    integers = np.ones((2, 4), np.int8)
    scale, zero = np.array([0.25, 0.5], np.float32), np.zeros(2, np.int8)
    return [
        mb.constexpr_affine_dequantize(quantized_data=integers, zero_point=zero, scale=scale, axis=0, name="w"),
        mb.constexpr_lut_to_dense(
            indices=np.array([0b11100100] * 2, np.uint8),
            lut=np.array([-1, 0, 1, 3], np.float32),
            shape=np.array([2, 4], np.uint32),
            name="p",
        ),
    ]


def constexpr_of_ios_18(mb: Any) -> list[Any]:
    """The same as iOS 18 has them."""
    from coremltools.converters.mil.mil import types

    indices = np.array([[0, 1, 2, 3]] * 2, types.np_uint2_dtype)
    table = np.array([-1, 0, 1, 3], np.float32).reshape(1, 1, 4, 1)
    return [
        mb.constexpr_blockwise_shift_scale(
            data=np.ones((2, 4), np.int8), scale=np.array([[0.25], [0.5]], np.float32), name="w"
        ),
        mb.constexpr_lut_to_dense(indices=indices, lut=table, name="p"),
    ]


@pytest.mark.parametrize(("ios", "weights"), [(17, constexpr), (18, constexpr_of_ios_18)])
def test_core_ml(ios: int, weights: Any, tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        grid = {"scale": np.float32(0.5), "zero_point": np.int8(-3)}
        integers = mb.quantize(input=x, output_dtype="int8", name="xq", **grid)
        one, other = weights(mb)
        return [mb.add(x=mb.dequantize(input=integers, **grid), y=mb.add(x=one, y=other))]

    package = Package.load(build(tmp_path / "p.mlpackage", body, [(2, 4)], ios=ios))
    found = {item.name: item for item in coreml_integers(package, {"x": 0.25})}
    assert found == {
        "x": QuantizedTensor("x", "int8", False, (0.5, 0.5), 1, -3, -62.5, 65.0, 0.25),
        "w": WEIGHT,
        "p": QuantizedTensor("p", "uint2", True, None, 0, None, -1.0, 3.0, None),
    }


def test_every_share_in_a_files_metadata_is_of_a_tensor_that_it_has(tiny_bundle: Bundle) -> None:
    for artifact in (item for item in tiny_bundle.manifest.artifacts if item.precision == "int8"):
        path = tiny_bundle.path(artifact)
        described = backend_of(path).describe(path)
        assert described.metadata["recipe"] in ("w8a8-mix", "w8a8-conv")
        activations = {item.name: item for item in described.quantized if not item.constant}
        shares = described.metadata["clipped"]
        assert set(shares) <= set(activations), path
        assert all(activations[name].clipped == share for name, share in shares.items())
        # What only moves numbers, and halves of operators, were not observed by themselves.
        assert len(shares) > 0.5 * len(activations) > 15, path
        assert max(shares.values()) < 0.05
        assert all(item.low is not None and item.low <= 0 <= (item.high or 0) for item in activations.values()), path
        assert not any("planned:" in item.name for item in described.quantized)
