"""Thirty faults of segmenters and detectors, five a task and format: layers, classes, maps and boxes."""

import functools
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.faults import edits
from benchmarks.faults.catalogue import Fault, exchanged_classes, rotated_classes, spoilt_layers
from benchmarks.faults.wrapping import Wrapper
from cloformer_deploy.networks.heads.detector import STRIDES
from cloformer_deploy.networks.heads.layers import Upsample

N = 100
SIDE = 224
_MAP = "segment.classify"
_SCORES = tuple(f"detect.scores.{level}.1" for level in range(len(STRIDES)))


class ChangedOutput(nn.Module):
    """Changes what a model returns."""

    def __init__(self, model: nn.Module, change: Callable[..., Tensor | tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.model = model
        self.change = change

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Outputs of an image batch (B, 3, H, W)."""
        found = self.model(image)
        return self.change(*found) if isinstance(found, tuple) else self.change(found)


class _AlignedCorners(nn.Module):
    """Bilinear upsampling by two with aligned corners."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _aligned(model: nn.Module) -> nn.Module:
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Upsample):
                setattr(parent, name, _AlignedCorners())
    return model


def _mirrored(logits: Tensor) -> Tensor:
    width = logits.shape[3]
    return logits @ torch.eye(width).flip(0)  # not every format turns an axis round


def _moved(logits: Tensor) -> Tensor:
    height = logits.shape[2]
    rows = torch.eye(height)  # not every format has a diagonal beside the main one
    return torch.cat([torch.zeros(1, height), rows[:-1]]) @ logits


def _turned(logits: Tensor) -> Tensor:
    return logits.transpose(2, 3)


def _edges(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return boxes[..., :2], boxes[..., 2:]


def _transposed(boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
    low, high = _edges(boxes)
    return torch.cat([low[..., 1:], low[..., :1], high[..., 1:], high[..., :1]], 2), scores


def _sized(boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
    low, high = _edges(boxes)
    return torch.cat([low, high - low], 2), scores


def _centered(boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
    low, high = _edges(boxes)
    return torch.cat([(low + high) * 0.5, high - low], 2), scores


def _in_pixels(boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
    return boxes * SIDE, scores


def _stride_off(boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
    """The cells of stride 16 are at the corners of others, not in their middle."""
    fine, middle = ((SIDE // stride) ** 2 for stride in STRIDES[:2])
    shift = torch.zeros(1, boxes.shape[1], 1)
    shift[:, fine : fine + middle] = 0.5 * STRIDES[1] / SIDE
    return boxes + shift, scores


def _logits(boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
    return boxes, torch.log(scores / (1 - scores))


def _changed(change: Callable[..., Tensor | tuple[Tensor, ...]]) -> Wrapper:
    return functools.partial(ChangedOutput, change=change)


_MAPS: dict[str, tuple[Wrapper, str]] = {
    "map mirrored": (_changed(_mirrored), "the map is mirrored left to right"),
    "map moved": (_changed(_moved), "the map is moved by one pixel down"),
    "map transposed": (_changed(_turned), "the map is transposed"),
    "corners aligned": (cast(Wrapper, _aligned), "upsampling aligns the corners"),
}
_BOXES: dict[str, tuple[Wrapper, str]] = {
    "boxes transposed": (_changed(_transposed), "the boxes are transposed"),
    "boxes xywh": (_changed(_sized), "the boxes are xywh"),
    "boxes cxcywh": (_changed(_centered), "the boxes are cxcywh"),
    "boxes in pixels": (_changed(_in_pixels), "the boxes are in pixels"),
    "one stride off": (_changed(_stride_off), "the cells are moved"),
    "scores before sigmoid": (_changed(_logits), "the scores are logits"),
}
_OF_LAYERS = {
    ("segmentation", "onnx"): (
        ("fp32", edits.zeroed, "segment.smoothing.1.3"),
        ("int8", edits.rolled, "layers.2.blocks.1.mlp.fc1"),
    ),
    ("segmentation", "tflite"): (
        ("fp32", edits.rolled, "segment.laterals.2.0"),
        ("int8", edits.zeroed, "segment.smoothing.2.3"),
    ),
    ("segmentation", "coreml"): (
        ("fp32", edits.kernel_transposed, "segment.smoothing.0.0"),
        ("int8", edits.rolled, "layers.1.blocks.0.mlp.fc2"),
    ),
    ("detection", "onnx"): (
        ("fp32", edits.rolled, "detect.distances.0.0.3"),
        ("int8", edits.zeroed, "layers.2.blocks.4.mlp.fc1"),
    ),
    ("detection", "tflite"): (
        ("fp32", edits.kernel_transposed, "detect.smoothing.0.0"),
        ("int8", edits.rolled, "detect.scores.1.0.3"),
    ),
    ("detection", "coreml"): (
        ("fp32", edits.zeroed, "detect.laterals.1.0"),
        ("int8", edits.rolled, "layers.2.blocks.0.attn.proj"),
    ),
}
_OF_OUTPUTS = {
    ("segmentation", "onnx"): ("map mirrored", "corners aligned"),
    ("segmentation", "tflite"): ("map transposed", "map moved"),
    ("segmentation", "coreml"): ("corners aligned", "map moved"),
    ("detection", "onnx"): ("boxes transposed", "scores before sigmoid"),
    ("detection", "tflite"): ("boxes xywh", "one stride off"),
    ("detection", "coreml"): ("boxes in pixels", "boxes cxcywh"),
}


def _all() -> Iterator[Fault]:
    for (task, format_name), layers in _OF_LAYERS.items():
        last = (_MAP,) if task == "segmentation" else _SCORES
        for precision, spoil, path in layers:
            what, edit = f"{path} {spoilt_layers[spoil]}", spoil(path)
            yield Fault(format_name, precision, "layer", what, edit, layers=(path,), n=N, task=task)
        for what in _OF_OUTPUTS[task, format_name]:
            wrapper, named = (_MAPS | _BOXES)[what]
            yield Fault(format_name, "fp32", "outputs", what, None, wrapper, named=named, n=N, task=task)
        order = exchanged_classes if format_name == "tflite" else rotated_classes
        what, edit, named = order(last)
        yield Fault(format_name, "int8", "labels", what, edit, named=named, n=N, task=task)


DENSE_FAULTS = tuple(_all())
