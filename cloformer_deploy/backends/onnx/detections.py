"""Non-maximum suppression at the end of a detector's graph, for apps that have none.

Operators: https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import DETECTIONS
from cloformer_deploy.tasks.boxes import LEAST_SCORE, MOST_DETECTIONS, MOST_OVERLAP

if TYPE_CHECKING:
    import onnx

_PREFIX = "detections/"


def add_detections(model: "onnx.ModelProto", boxes: str, scores: str) -> None:
    """Add the outputs `DETECTIONS` to a graph of batch 1, in place: at most `MOST_DETECTIONS`, the highest score first.

    Args:
        model: a float32 interface, whatever is inside.
        boxes: name of the output with the boxes of cells, (1, N, 4).
        scores: name of the output with their scores, (1, N, classes).
    """
    from onnx import TensorProto, helper, numpy_helper

    constants: dict[str, NDArray[Any]] = {
        "most": np.array([MOST_DETECTIONS], np.int64),
        "overlap": np.array([MOST_OVERLAP], np.float32),
        "least": np.array([LEAST_SCORE], np.float32),
        "class": np.array([1], np.int64),
        "cell": np.array([0, 2], np.int64),
    }
    nodes: tuple[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]], ...] = (
        ("Transpose", (scores,), ("by_class",), {"perm": [0, 2, 1]}),
        ("NonMaxSuppression", (boxes, "by_class", "most", "overlap", "least"), ("kept",), {}),
        ("GatherND", ("by_class", "kept"), ("kept_scores",), {}),
        ("Shape", ("kept_scores",), ("kept_count",), {}),
        ("Min", ("kept_count", "most"), ("count",), {}),
        ("TopK", ("kept_scores", "count"), (DETECTIONS[1], "order"), {}),
        ("Gather", ("kept", "order"), ("ordered",), {"axis": 0}),
        ("Gather", ("ordered", "cell"), ("cells",), {"axis": 1}),
        ("GatherND", (boxes, "cells"), (DETECTIONS[0],), {}),
        ("Gather", ("ordered", "class"), ("classes",), {"axis": 1}),
        ("Reshape", ("classes", "flat"), (DETECTIONS[2],), {}),
    )
    constants["flat"] = np.array([-1], np.int64)
    outside = {boxes, scores, *DETECTIONS}

    def named(name: str) -> str:
        return name if name in outside else _PREFIX + name

    graph = model.graph
    graph.initializer.extend(numpy_helper.from_array(value, named(name)) for name, value in constants.items())
    for kind, inputs, outputs, attributes in nodes:
        made = helper.make_node(kind, [*map(named, inputs)], [*map(named, outputs)], _PREFIX + outputs[0], **attributes)
        graph.node.append(made)
    for name, element, axes in zip(
        DETECTIONS, (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64), ([4], [], []), strict=True
    ):
        graph.output.append(helper.make_tensor_value_info(name, element, ["detections", *axes]))
