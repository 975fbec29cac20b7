"""The metadata that MediaPipe's tasks need in a TFLite file, and the labels behind it.

The metadata are a flatbuffer of their own (schema: mediapipe/tasks/metadata/metadata_schema.fbs, version 1.5.0) in an
entry of the model's metadata. The names of the classes are a text file in a zip archive that is appended to the file.
"""

import io
import zipfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cloformer_deploy.backends.base import ExportSpec

ENTRY = "TFLITE_METADATA"
LABELS_FILE = "labels.txt"
_IDENTIFIER = b"M001"
_SCHEMA_VERSION = "1.5.0"
_SEGMENTER = "SEGMENTER_METADATA"
_SEGMENTER_IDENTIFIER = b"V001"
_SOFTMAX = 2
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _BOX_PROPERTIES = 1, 2, 3
_RGB, _GRAYSCALE = 1, 2
_TENSOR_AXIS_LABELS, _TENSOR_VALUE_LABELS = 2, 3
_BOUNDARIES = 1
_EDGES = array("I", (1, 0, 3, 2))
"""Positions of left, top, right and bottom edge in a box."""
_MASK_AXES = (1, 2)
"""Axes of the output that are an image."""


@dataclass(frozen=True)
class Table:
    """A table of a flatbuffer: the number of its slots, and what some of them hold.

    A value is a text, a `Table`, a list of texts or tables, bytes or an array of numbers (vectors), or a number with
    its type ("Int8", "Int32").
    """

    slots: int
    values: dict[int, Any]


_VALUE_RANGE = Table(2, {0: ("Int32", 2), 1: ("Int32", 2)})
"""Axes of an output that are a value for each object."""


def metadata(spec: ExportSpec) -> bytes | None:
    """Return the metadata of files that MediaPipe's tasks take, which are for single images; None for others."""
    if spec.has_detections:
        return detector_metadata(spec)
    if spec.input_kind == "image" and spec.pixel_logits is not None and spec.batch == 1:
        return segmenter_metadata(spec)
    return None


def detector_metadata(spec: ExportSpec) -> bytes:
    """Return the metadata of an object detector with the outputs `suppressed.APP_OUTPUTS`."""
    edges = Table(3, {0: _EDGES, 1: ("Int8", _BOUNDARIES)})
    names = ("location", "category", "score", "number of detections")
    files = [Table(5, {0: LABELS_FILE, 2: ("Int8", _TENSOR_VALUE_LABELS)})] if spec.labels else []
    outputs = [
        _tensor(names[0], Table(3, {0: ("Int8", _BOX_PROPERTIES), 1: edges, 2: _VALUE_RANGE}), []),
        _tensor(names[1], _feature(_VALUE_RANGE), files),
        _tensor(names[2], _feature(_VALUE_RANGE), []),
        _tensor(names[3], _feature(None), []),
    ]
    group = Table(2, {0: "detection_result", 1: list(names[:3])})
    graph = Table(10, {2: [_tensor("image", _image(_RGB, None), [])], 3: outputs, 8: [group]})
    return _packed(Table(8, {0: "ObjectDetector", 1: spec.title, 3: [graph], 7: _SCHEMA_VERSION}), _IDENTIFIER)


def segmenter_metadata(spec: ExportSpec) -> bytes:
    """Return the metadata of an image segmenter with one output: logits of each class, (1, height, width, classes)."""
    files = [Table(5, {0: LABELS_FILE, 2: ("Int8", _TENSOR_AXIS_LABELS)})] if spec.labels else []
    custom = Table(2, {0: _SEGMENTER, 1: _packed(Table(2, {0: ("Int8", _SOFTMAX)}), _SEGMENTER_IDENTIFIER)})
    graph = Table(
        10,
        {
            2: [_tensor("image", _image(_RGB, None), [])],
            3: [_tensor("segmentation_masks", _image(_GRAYSCALE, _MASK_AXES), files)],
            9: [custom],
        },
    )
    return _packed(Table(8, {0: "ImageSegmenter", 1: spec.title, 3: [graph], 7: _SCHEMA_VERSION}), _IDENTIFIER)


def with_labels(content: bytes, labels: Sequence[str] | None) -> bytes:
    """Return a file with the names of its classes in a zip archive at its end."""
    if not labels:
        return content
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        # A fixed date, so that equal exports are equal files.
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), "\n".join(labels))
    return file.getvalue()


def _tensor(name: str, content: Table, files: list[Table]) -> Table:
    return Table(7, {0: name, 3: content, **({6: files} if files else {})})


def _feature(axes: Table | None) -> Table:
    return Table(3, {0: ("Int8", _FEATURE_PROPERTIES), 1: Table(0, {}), **({} if axes is None else {2: axes})})


def _image(color_space: int, axes: tuple[int, int] | None) -> Table:
    values: dict[int, Any] = {0: ("Int8", _IMAGE_PROPERTIES), 1: Table(2, {0: ("Int8", color_space)})}
    if axes is not None:
        values[2] = Table(2, {0: ("Int32", axes[0]), 1: ("Int32", axes[1])})
    return Table(3, values)


def _packed(table: Table, identifier: bytes) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder()
    builder.Finish(_written(builder, table), file_identifier=identifier)
    return bytes(builder.Output())


def _written(builder: Any, table: Table) -> int:
    """Write a table, after all that it refers to, and return its offset."""
    offsets = {slot: _reference(builder, value) for slot, value in table.values.items() if not isinstance(value, tuple)}
    builder.StartObject(table.slots)
    for slot, value in table.values.items():
        if isinstance(value, tuple):
            kind, number = value
            getattr(builder, f"Prepend{kind}Slot")(slot, number, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
    return int(builder.EndObject())


def _reference(builder: Any, value: Any) -> int:
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, bytes):
        builder.StartVector(1, len(value), 16)  # the schema asks for this alignment
        for byte in reversed(value):
            builder.PrependByte(byte)
        return int(builder.EndVector())
    if isinstance(value, array):
        builder.StartVector(4, len(value), 4)
        for number in reversed(value):
            builder.PrependUint32(number)
        return int(builder.EndVector())
    if isinstance(value, Table):
        return _written(builder, value)
    offsets = [_reference(builder, item) for item in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
