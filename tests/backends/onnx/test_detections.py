"""Non-maximum suppression inside a graph keeps what the task's own suppression keeps."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cloformer_deploy.backends.base import DETECTIONS
from cloformer_deploy.backends.onnx.detections import add_detections
from cloformer_deploy.tasks.boxes import MOST_DETECTIONS, detections
from tests.tasks.detecting import CELLS, CLASSES, objects, outputs

IMAGES = 200


def session(cells: int, opset: int) -> onnxruntime.InferenceSession:
    """A graph that passes boxes and scores on, and suppresses."""
    shapes = {"boxes": [1, cells, 4], "scores": [1, cells, CLASSES]}
    values = [
        [helper.make_tensor_value_info(f"{end}{name}", TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        for end in ("in_", "")
    ]
    nodes = [helper.make_node("Identity", [f"in_{name}"], [name]) for name in shapes]
    graph = helper.make_graph(nodes, "detector", values[0], values[1])
    imports = [helper.make_opsetid("", opset)]
    version = helper.find_min_ir_version_for(imports)
    model = helper.make_model(graph, opset_imports=imports, ir_version=version)
    add_detections(model, "boxes", "scores")
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def kept(
    runtime: onnxruntime.InferenceSession, boxes: NDArray[np.float32], scores: NDArray[np.float32]
) -> list[NDArray[np.generic]]:
    return list(runtime.run(list(DETECTIONS), {"in_boxes": boxes[None], "in_scores": scores[None]}))


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_it_keeps_the_same_boxes(opset: int) -> None:
    runtime = session(CELLS, opset)
    made = outputs(objects(IMAGES, 0), 1, noise=0.03, clutter=40)
    for boxes, scores in zip(made["boxes"], made["scores"], strict=True):
        expected, found = detections(boxes, scores), kept(runtime, boxes, scores)
        assert np.array_equal(found[1], expected.scores)
        assert np.array_equal(found[0], expected.boxes)
        assert np.array_equal(found[2], expected.classes)


def test_nothing_and_more_than_fits() -> None:
    runtime = session(CELLS, 20)
    boxes = np.zeros((CELLS, 4), np.float32)
    assert [each.shape for each in kept(runtime, boxes, np.zeros((CELLS, CLASSES), np.float32))] == [(0, 4), (0,), (0,)]
    random = np.random.default_rng(0)
    low = random.uniform(0, 0.99, (CELLS, 2)).astype(np.float32)
    apart = np.hstack([low, low + np.float32(0.005)])
    scores = random.uniform(0.1, 1, (CELLS, CLASSES)).astype(np.float32)
    found = kept(runtime, apart, scores)
    assert len(found[1]) == MOST_DETECTIONS
    assert np.array_equal(found[1], detections(apart, scores).scores)
