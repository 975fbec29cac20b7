"""The cost of graphs, against figures worked out by hand and between formats."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cloformer_deploy.backends.coreml.describe import summarize as summarize_coreml
from cloformer_deploy.backends.coreml.interpreter import Package
from cloformer_deploy.backends.description import GraphSummary
from cloformer_deploy.backends.onnx.describe import summarize as summarize_onnx
from tests.backends.coreml.interpreter.coreml_programs import build

pytestmark = pytest.mark.integration


def onnx_model(batch: int | str) -> onnx.ModelProto:
    """Grouped conv (2 groups, 3 x 3), transpose, batched product with itself, Gemm."""
    weights: dict[str, NDArray[Any]] = {
        "w": np.ones((6, 2, 3, 3), np.float32),
        "m": np.ones((5, 7), np.float16).astype(np.float32),
        "shape": np.array([-1, 5], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], group=2),  # (b, 6, 3, 5) of (b, 4, 5, 7)
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 1, 3, 2]),  # (b, 6, 5, 3)
        helper.make_node("MatMul", ["t", "c"], ["p"]),  # (b, 6, 5, 5)
        helper.make_node("Reshape", ["p", "shape"], ["r"]),
        helper.make_node("Gemm", ["r", "m"], ["y"]),  # (b 30, 7)
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4, 5, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [30 if batch == 1 else 60 if batch == 2 else "n", 7])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


MACS = 6 * 3 * 5 * 2 * 9 + 6 * 5 * 5 * 3 + 30 * 7 * 5


@pytest.mark.parametrize(("batch", "macs"), [(1, MACS), (2, 2 * MACS)])
def test_onnx(batch: int, macs: int) -> None:
    assert summarize_onnx(onnx_model(batch)) == GraphSummary(1, 4, 6 * 2 * 9 + 5 * 7, macs)


def test_onnx_without_shapes() -> None:
    model = onnx_model(1)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert summarize_onnx(model).macs is None


def test_core_ml(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        conv = mb.conv(x=x, weight=np.ones((6, 2, 3, 3), np.float32), groups=2, pad_type="valid")  # (1, 6, 3, 5)
        turned = mb.transpose(x=conv, perm=[0, 1, 3, 2])
        product = mb.matmul(x=turned, y=conv)  # (1, 6, 5, 5)
        same = mb.matmul(x=conv, y=conv, transpose_x=True)
        rows = mb.reshape(x=mb.add(x=product, y=same), shape=[30, 5])
        linear = mb.linear(x=rows, weight=np.ones((7, 5), np.float32), bias=np.zeros(7, np.float32))
        k, q = (mb.reshape(x=conv, shape=shape) for shape in ([1, 30, 1, 3], [1, 3, 1, 30]))
        return [linear, mb.einsum(values=[k, q], equation="nchw,nwhu->nchu")]

    found = summarize_coreml(Package.load(build(tmp_path / "p.mlpackage", body, [(1, 4, 5, 7)])))
    assert found.macs == 6 * 3 * 5 * 2 * 9 + 2 * 6 * 5 * 5 * 3 + 30 * 7 * 5 + 30 * 30 * 3
    assert (found.transposes, found.max_rank) == (1, 4)
    assert found.parameters == 6 * 2 * 9 + 7 * 5 + 7
