"""Detectors with an image input: files that end in TFLite's own post-processing operator, as MediaPipe asks for.

The operator is built into every TFLite runtime (tensorflow/lite/kernels/detection_postprocess.cc). It takes boxes by
their centers and the logarithms of their sides, relative to anchors; the anchor of every cell is the whole image. Its
outputs have room for 100 objects: edges (1, 100, 4), top first, classes and scores (1, 100), and their number (1,).
"""

from typing import Any

import numpy as np
from torch import Tensor, cat, nn

from cloformer_deploy.backends.tflite.suppressed import APP_OUTPUTS, CELLS
from cloformer_deploy.tasks.boxes import LEAST_SCORE, MOST_DETECTIONS, MOST_OVERLAP

OPERATOR = "TFLite_Detection_PostProcess"
_LEAST_SIDE = 1e-6
_ANCHOR = (0, 0, 1, 1)
"""Center y and x, height and width."""


class ForPostProcessing(nn.Module):
    """A detector whose outputs are `CELLS`.

    Args:
        model: returns boxes (1, N, 4) and scores (1, N, classes), see `networks.heads.detector.Detector`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the boxes (1, N, 4), center y and x, logarithm of height and width, and the scores (1, N, classes)."""
        boxes, scores = self.model(image)
        left, top, right, bottom = boxes.split(1, -1)
        sides = cat([bottom - top, right - left], -1).clamp(min=_LEAST_SIDE)
        return cat([(top + bottom) * 0.5, (left + right) * 0.5, sides.log()], -1), scores


def add_detections(model: Any) -> None:
    """Add the operator behind the boxes and scores of a schema's `ModelT`, in place.

    Args:
        model: its first graph's outputs are `CELLS`.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    named = {graph.tensors[index].name.decode(): index for index in graph.outputs}
    _, cells, classes = map(int, graph.tensors[named[CELLS[1]]].shape)
    anchors = np.tile(np.array(_ANCHOR, np.float32), (cells, 1))
    buffer = schema.BufferT()
    buffer.data = anchors.view(np.uint8).ravel()
    model.buffers.append(buffer)
    inputs = [named[CELLS[0]], named[CELLS[1]], _tensor(graph, "anchors", anchors.shape, len(model.buffers) - 1)]
    shapes = ((1, MOST_DETECTIONS, 4), (1, MOST_DETECTIONS), (1, MOST_DETECTIONS), (1,))
    outputs = [_tensor(graph, name, sides, 0) for name, sides in zip(APP_OUTPUTS, shapes, strict=True)]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = OPERATOR.encode(), 1
    model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = inputs, outputs
    operator.customOptions = list(_options(classes))
    graph.operators.append(operator)
    graph.outputs = outputs
    signature.outputs = []
    for name, index in zip(APP_OUTPUTS, outputs, strict=True):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        signature.outputs.append(entry)


def _tensor(graph: Any, name: str, shape: tuple[int, ...], buffer: int) -> int:
    """Add a float32 tensor to a graph and return its index."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name.encode(), list(shape), schema.TensorType.FLOAT32
    tensor.buffer = buffer
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _options(classes: int) -> bytes:
    """Return the operator's options: suppression within each class, as `tasks.boxes.detections` does it."""
    from flatbuffers import flexbuffers

    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Int("max_detections", MOST_DETECTIONS)
        builder.Int("max_classes_per_detection", 1)  # of the other, faster form of suppression
        builder.Int("detections_per_class", MOST_DETECTIONS)
        builder.Bool("use_regular_nms", True)
        builder.Float("nms_score_threshold", LEAST_SCORE)
        builder.Float("nms_iou_threshold", MOST_OVERLAP)
        builder.Int("num_classes", classes)
        for scale in ("y_scale", "x_scale", "h_scale", "w_scale"):
            builder.Float(scale, 1.0)
    return bytes(builder.Finish())
