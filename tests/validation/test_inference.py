"""Test that an artifact of any batch size gives the outputs of any number of images, and that shapes are checked."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cloformer_deploy.backends.base import Session
from cloformer_deploy.backends.registry import runtime_for
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import ToolError
from cloformer_deploy.tasks import Outputs
from cloformer_deploy.validation.inference import artifact_outputs, rows

PREPROCESSING = Preprocessing.published(32, 32)
PIXELS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (7, 3, 32, 32), np.uint8)


def session(folder: Path, batch: int | str) -> Session:
    """Return a session of a file with two outputs: the mean of each channel, and half the image."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("Mul", ["image", "half"], ["halves"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two_outputs",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 32, 32])],
        [
            helper.make_tensor_value_info("means", TensorProto.FLOAT, [batch, 3]),
            helper.make_tensor_value_info("halves", TensorProto.FLOAT, [batch, 3, 32, 32]),
        ],
        [helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])],
    )
    path = folder / "two_outputs.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return runtime_for("onnx").open(path)


def plain(pixels: NDArray[np.uint8]) -> Outputs:
    images = PREPROCESSING.normalize(pixels)
    return {"means": images.mean(axis=(2, 3)), "halves": images / 2}


@pytest.mark.parametrize("batch", [1, 2, 4, 7, 16, "n"])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_every_image_has_its_outputs(tmp_path: Path, batch: int | str, count: int) -> None:
    pixels = PIXELS[:count]
    expected = plain(pixels)
    found = artifact_outputs(session(tmp_path, batch), pixels, PREPROCESSING, "tensor", expected)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({"logits": np.zeros((7, 3))}, "it has no output 'logits', only means, halves"),
        ({"means": np.zeros((7, 4))}, r"its output means has shape \(2, 3\), not \(2, 4\)"),
        ({"halves": np.zeros((7, 3, 1024))}, r"its output halves has shape \(2, 3, 32, 32\), not \(2, 3, 1024\)"),
    ],
)
def test_missing_outputs_and_other_shapes_are_refused(tmp_path: Path, expected: Outputs, told: str) -> None:
    with pytest.raises(ToolError, match=told):
        artifact_outputs(session(tmp_path, 2), PIXELS, PREPROCESSING, "tensor", expected)


def test_rows_are_of_every_output() -> None:
    outputs = plain(PIXELS)
    found = rows(outputs, [5, 0])
    assert found.keys() == outputs.keys()
    for name, values in outputs.items():
        np.testing.assert_array_equal(found[name], values[[5, 0]])
