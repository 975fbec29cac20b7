"""Models of the exported opset in older ones: the same numbers, and nothing that the older opset lacks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from cloformer_deploy.backends.onnx.opsets import in_opset
from cloformer_deploy.backends.onnx.options import EXPORTED_OPSET, OPSETS, OnnxOptions
from cloformer_deploy.backends.onnx.targets import TARGETS
from cloformer_deploy.errors import ToolError

X = np.linspace(-6, 6, 2 * 4 * 6, dtype=np.float32).reshape(1, 2, 4, 6)


def model(nodes: Sequence[Any], **constants: NDArray[Any]) -> ModelProto:
    """Return a model of the exported opset from x to y."""
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", EXPORTED_OPSET)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def run(made: ModelProto) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["y"], {"x": X})
    return np.asarray(found)


AXES = np.array([2, 3])
CASES: dict[str, ModelProto] = {
    "gelu": model([helper.make_node("Gelu", ["x"], ["h"]), helper.make_node("Gelu", ["h"], ["y"], approximate="none")]),
    "mean": model(
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1, noop_with_empty_axes=0)], axes=AXES
    ),
    "maximum": model([helper.make_node("ReduceMax", ["x", "axes"], ["y"], keepdims=0)], axes=AXES),
    "sum": model([helper.make_node("ReduceSum", ["x", "axes"], ["y"])], axes=AXES),  # its axes are an input since 13
    "split": model(
        [
            helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
            helper.make_node("Sub", ["a", "b"], ["y"]),
        ]
    ),
    "cast": model([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT, saturate=1)]),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("case", CASES)
def test_the_numbers_stay(case: str, opset: int) -> None:
    before = CASES[case].SerializeToString()
    made = in_opset(CASES[case], opset)
    onnx.checker.check_model(made, full_check=True)
    assert [item.version for item in made.opset_import] == [opset]
    assert ("Gelu" in {node.op_type for node in made.graph.node}) == (case == "gelu" and opset >= 20)
    np.testing.assert_allclose(run(made), run(CASES[case]), rtol=0, atol=2e-6)
    assert CASES[case].SerializeToString() == before


@pytest.mark.parametrize(("opset", "version"), [(17, 8), (18, 8), (19, 9), (20, 9), (21, 10)])
def test_the_ir_version_is_the_oldest_that_has_the_opset(opset: int, version: int) -> None:
    assert in_opset(CASES["gelu"], opset).ir_version == version


def test_constants_that_nothing_reads_any_more_are_left_out() -> None:
    made = in_opset(CASES["mean"], 17)
    assert not made.graph.initializer


@pytest.mark.parametrize("opset", [17, 20])
def test_no_two_products_have_the_same_constant(opset: int) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    shared = model(nodes, w=np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32))
    made = in_opset(shared, opset)
    onnx.checker.check_model(made, full_check=True)
    assert len({node.input[1] for node in made.graph.node}) == 2
    np.testing.assert_array_equal(run(made), run(shared))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (model([helper.make_node("Gelu", ["x"], ["y"], approximate="tanh")]), "Gelu, approximate"),
        (
            model([helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2])]),
            "AveragePool, dilations",
        ),
        (model([helper.make_node("Mish", ["x"], ["y"])]), "Mish"),
        (
            model(
                [helper.make_node("Pad", ["x", "pads", "", "axes"], ["y"])], pads=np.array([0, 1]), axes=np.array([3])
            ),
            "Pad of 4 inputs",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_an_opset_cannot_say_is_refused(made: ModelProto, told: str) -> None:
    with pytest.raises(ToolError, match="ONNX opset 17") as caught:
        in_opset(made, 17)
    assert caught.value.message.endswith(told)
    assert "--opset 20" in caught.value.hint


def test_a_file_without_a_wish_gets_the_oldest_opset_that_has_its_integers() -> None:
    found = {
        (target.name, name): OnnxOptions().settled(target.recipes.get(name)).opset
        for target in TARGETS.values()
        for name in target.precisions
    }
    assert {key: opset for key, opset in found.items() if opset != EXPORTED_OPSET} == {("hexagon", "w8a16"): 21}


def test_a_wish_stays() -> None:
    assert OnnxOptions(opset=17).settled(None).opset == 17
