"""Faults of classifiers, as data: twenty for each format, in float and integer files."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from benchmarks.faults import edits
from benchmarks.faults.edits import Edit
from benchmarks.faults.wrapping import MappedInput, NanAbove, Wrapper

Kind = Literal["layer", "preprocessing", "labels", "outputs", "numbers"]
SOME, MANY = 256, 1000


@dataclass(frozen=True)
class Fault:
    """One fault in one file.

    Attributes:
        format: of the file.
        precision: of the file.
        kind: what is wrong.
        what: in a few words, unique in its task, format and precision.
        edit: what the file computes; its stored weights are changed for it.
        wrapper: what the file computes, which is a conversion of its own. Without both it is an export like the healthy
            one, but calibrated on dark images.
        layers: paths of the spoilt layers, as in the published state dict, of a fault of kind `layer`.
        named: what a sentence of the diagnosis starts with; None where no sentence is due.
        n: on how many images it is judged.
        task: of the weights.
    """

    format: str
    precision: str
    kind: Kind
    what: str
    edit: Edit | None
    wrapper: Wrapper | None = None
    layers: tuple[str, ...] = ()
    named: str | None = None
    n: int = SOME
    task: str = "classification"

    @property
    def name(self) -> str:
        """Unique."""
        what = f"{self.format} {self.precision} {self.what}"
        return what if self.task == "classification" else f"{self.task} {what}"


@dataclass(frozen=True)
class _Spoilt:
    """A fault of layers, for any file."""

    what: str
    edit: Edit
    layers: tuple[str, ...]


spoilt_layers: dict[Callable[[str], Edit], str] = {
    edits.zeroed: "zeroed",
    edits.rolled: "permuted",
    edits.doubled: "doubled",
    edits.kernel_transposed: "transposed",
    edits.bias_dropped: "without bias",
}
"""Edits of one layer, and what a fault with them is called."""


def _one(edit: Callable[[str], Edit], path: str) -> _Spoilt:
    return _Spoilt(f"{path} {spoilt_layers[edit]}", edit(path), (path,))


def _channels_lost(path: str, count: int) -> _Spoilt:
    return _Spoilt(f"{path} without {count} channels", edits.channels_lost(path, count), (path,))


def _swapped(path: str, other: str) -> _Spoilt:
    return _Spoilt(f"{path} and {other} swapped", edits.swapped(path, other), (path, other))


_LAYERS: dict[str, dict[str, tuple[_Spoilt, ...]]] = {
    "onnx": {
        "fp32": (
            _one(edits.zeroed, "layers.1.blocks.0.attn.qkvs.0"),
            _one(edits.doubled, "layers.2.blocks.2.mlp.fc2"),
            _one(edits.bias_dropped, "layers.2.blocks.4.mlp.dwconv"),
            _swapped("layers.2.blocks.1.mlp.fc1", "layers.2.blocks.3.mlp.fc1"),
        ),
        "fp16": (
            _one(edits.kernel_transposed, "layers.1.blocks.1.mlp.dwconv"),
            _channels_lost("patch_embed.conv3.conv.0", 2),
        ),
        "int8": (
            _one(edits.rolled, "layers.2.blocks.1.attn.convs.0"),
            _one(edits.zeroed, "layers.3.blocks.0.attn.proj"),
            _channels_lost("layers.2.blocks.0.attn.qkvs.0", 8),
        ),
    },
    "tflite": {
        "fp32": (
            _one(edits.rolled, "layers.0.blocks.1.downsample.2"),
            _one(edits.kernel_transposed, "layers.2.blocks.3.mlp.dwconv"),
            _one(edits.zeroed, "layers.3.blocks.1.attn.global_kv"),
            _channels_lost("layers.1.blocks.1.mlp.fc1", 8),
        ),
        "fp16": (
            _one(edits.bias_dropped, "patch_embed.conv5"),
            _swapped("patch_embed.conv3.conv.0", "patch_embed.conv4.conv.0"),
        ),
        "int8": (
            _one(edits.zeroed, "layers.2.blocks.4.mlp.fc1"),
            _one(edits.rolled, "layers.1.blocks.0.attn.act_blocks.0.act_block.0"),
            _swapped("layers.2.blocks.0.attn.proj", "layers.2.blocks.5.attn.proj"),
        ),
    },
    "coreml": {
        "fp32": (
            _one(edits.doubled, "layers.0.blocks.0.mlp.fc1"),
            _one(edits.zeroed, "layers.2.blocks.2.attn.convs.0"),
            _one(edits.kernel_transposed, "layers.2.blocks.5.downsample.0"),
            _swapped("layers.3.blocks.0.attn.qkvs.0", "layers.3.blocks.1.attn.qkvs.0"),
        ),
        "fp16": (
            _one(edits.rolled, "layers.1.blocks.0.attn.global_q"),
            _one(edits.bias_dropped, "layers.1.blocks.1.downsample.2"),
        ),
        "int8": (
            _one(edits.rolled, "layers.0.blocks.1.mlp.fc2"),
            _channels_lost("layers.3.blocks.0.mlp.fc2", 16),
            _one(edits.kernel_transposed, "layers.0.blocks.0.mlp.dwconv"),
        ),
    },
}
# A wrapped conversion is exact; where there are integers the first convolution takes the mapping over, but for the
# border that it pads.
_Mapping = tuple[str, torch.Tensor, torch.Tensor, str]
_TWICE: _Mapping = ("normalized twice", 1 / edits.STD, -edits.MEAN / edits.STD, "the images are normalized twice")
_UNIT: _Mapping = ("pixels of 0 to 1", edits.STD, edits.MEAN, "mean and deviation are left out")
_RAW: _Mapping = ("pixels of 0 to 255", 255 * edits.STD, 255 * edits.MEAN, "the images are not normalized")
_BGR = ("BGR", edits.takes_bgr(), "the file takes BGR")
_TRANSPOSED = ("images transposed", edits.takes_transposed, "the images are transposed")
_MAPPED: dict[str, dict[str, tuple[_Mapping, ...]]] = {
    "onnx": {"int8": (_UNIT,), "fp32": (_TWICE, _RAW)},
    "tflite": {"int8": (_TWICE,), "fp32": (_UNIT,), "fp16": (_RAW,)},
    "coreml": {"fp32": (_UNIT, _RAW), "fp16": (_TWICE,)},
}
_TURNED: dict[str, dict[str, tuple[tuple[str, Edit, str], ...]]] = {
    "onnx": {"int8": (_BGR,), "fp16": (_TRANSPOSED,)},
    "tflite": {"int8": (_TRANSPOSED,), "fp32": (_BGR,)},
    "coreml": {"int8": (_BGR, _TRANSPOSED)},
}
_Labels = tuple[str, Edit, str]


def rotated_classes(layers: Sequence[str]) -> _Labels:
    """Return a fault of the layers that predict classes: its words, its edit, and the name that is due."""
    order = edits.labels_in_order(lambda classes: classes.roll(1), layers)
    return "labels rotated", order, "the labels are rotated by 1"


def exchanged_classes(layers: Sequence[str]) -> _Labels:
    """See `rotated_classes`."""
    return "two classes swapped", edits.labels_in_order(edits.exchanged(3, 7), layers), "the classes "


_ROTATED, _EXCHANGED = rotated_classes((edits.HEAD,)), exchanged_classes((edits.HEAD,))
_CONSTANT = ("constant output", edits.zeroed(edits.HEAD), "the output is constant")
_INFINITE = ("an infinite class", edits.infinite_class(3), "infinite logits on")
_RARE = functools.partial(NanAbove, limit=1.73)
"""Mean pixel after normalization that only one of test images 0 to 999 exceeds (1.81; the next has 1.66)."""
_OVERFLOWS = {
    # ONNX Runtime computes float16 in float32 on a CPU and rounds only between partitions: the weights must overflow.
    "onnx": ("float16 weights overflow", edits.overflowing("layers.2.blocks.5.mlp", 2.0**18), "NaN logits on"),
    # Between the convolutions some images have magnitudes above 43, none above 51.
    "coreml": ("float16 overflows", edits.overflowing("layers.2.blocks.5.mlp", 65504 / 43), "NaN logits on"),
    # Its arithmetic is float32.
    "tflite": _INFINITE,
}


def _all() -> Iterator[Fault]:
    for format_name in _LAYERS:
        for precision, spoilt in _LAYERS[format_name].items():
            for item in spoilt:
                yield Fault(format_name, precision, "layer", item.what, item.edit, layers=item.layers)
        for precision, mappings in _MAPPED[format_name].items():
            for mapping in mappings:
                yield _mapped(format_name, precision, *mapping)
        for precision, mistakes in _TURNED[format_name].items():
            for what, edit, said in mistakes:
                yield Fault(format_name, precision, "preprocessing", what, edit, named=said)
        yield Fault(format_name, "int8", "labels", *_ROTATED[:2], named=_ROTATED[2])
        yield Fault(format_name, "fp32", "labels", *_EXCHANGED[:2], named=_EXCHANGED[2])
        rare = "NaN on one image in 1,000"
        yield Fault(format_name, "fp32", "numbers", rare, None, _RARE, named="NaN logits on 1 of", n=MANY)
        yield Fault(format_name, "int8", "numbers", "calibrated on dark images", None)
        yield Fault(format_name, "int8", "numbers", *_CONSTANT[:2], named=_CONSTANT[2])
        what, edit, said = _OVERFLOWS[format_name]
        yield Fault(format_name, "fp16", "numbers", what, edit, named=said)


def _mapped(format_name: str, precision: str, what: str, scale: torch.Tensor, shift: torch.Tensor, said: str) -> Fault:
    if precision == "int8":
        return Fault(format_name, precision, "preprocessing", what, edits.takes(scale, shift), named=said)
    wrapper = functools.partial(MappedInput, scale=tuple(scale.tolist()), shift=tuple(shift.tolist()))
    return Fault(format_name, precision, "preprocessing", what, None, wrapper, named=said)


FAULTS = tuple(_all())
