"""Reading and writing TFLite files.

What is read is not trusted: LiteRT itself would follow a wrong offset or index out of the file.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cloformer_deploy.backends.tflite.structure import DamagedError, check_structure
from cloformer_deploy.errors import BundleError
from cloformer_deploy.system.packages import require

MAX_FILE_BYTES = 2**30
"""Size of the largest file that is read, because a file is read into memory whole."""
_EXPORT_AGAIN = "export it again"


def load_model(path: Path) -> Any:
    """Read a TFLite file as the schema's `ModelT` object, all of whose offsets and indices are checked.

    Raises:
        BundleError: not a TFLite file, or damaged.
        MissingPartError: ai-edge-litert is not installed.
    """
    require("ai_edge_litert", extra="tflite")
    from ai_edge_litert.tools import flatbuffer_utils

    content = _content(path)
    if content[4:8] != b"TFL3":
        raise BundleError(f"{path} is not a TFLite file: its identifier is {content[4:8]!r}", "give a .tflite file")
    try:
        check_structure(content)
        model = flatbuffer_utils.convert_bytearray_to_object(content)
        _resolve_buffers(model, content)
        _check_indices(model)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError, struct.error) as error:
        raise BundleError(f"{path} is damaged: {error}", _EXPORT_AGAIN) from error
    graph = model.subgraphs[0]
    if not all(map(_list, (graph.operators, graph.inputs, graph.outputs))):
        raise BundleError(f"{path} is a TFLite file whose graph lacks operators, inputs or outputs", _EXPORT_AGAIN)
    return model


def packed(model: Any) -> bytes:
    """Return the file of the schema's `ModelT` object, whose buffers all lie inside of the flatbuffer proper."""
    import numpy as np
    from ai_edge_litert.tools import flatbuffer_utils

    for buffer in model.buffers:
        if isinstance(buffer.data, (bytes, bytearray)):  # of these the library writes byte after byte
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BundleError(f"{path} has {size} bytes, more than the limit of {MAX_FILE_BYTES}", _EXPORT_AGAIN)
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}", "check its permissions") from error


def _resolve_buffers(model: Any, content: bytes) -> None:
    """Read the buffers that lie behind the flatbuffer proper, where the quantizer puts them."""
    for buffer in model.buffers or ():
        if buffer.offset:
            if buffer.offset + buffer.size > len(content):
                raise DamagedError(f"a buffer ends at byte {buffer.offset + buffer.size}, the file at {len(content)}")
            buffer.data = content[buffer.offset : buffer.offset + buffer.size]


def _check_indices(model: Any) -> None:
    """Check that operators, tensors and signatures name things that are there."""
    if not model.subgraphs:
        raise DamagedError("it has no graph")
    buffers, codes = len(_list(model.buffers)), len(_list(model.operatorCodes))
    _within("metadata's buffer", (item.buffer for item in _list(model.metadata)), buffers)
    for graph in model.subgraphs:
        tensors = len(_list(graph.tensors))
        _within("buffer of a tensor", (item.buffer for item in _list(graph.tensors)), buffers)
        _within("input", _list(graph.inputs), tensors)
        _within("output", _list(graph.outputs), tensors)
        if any(side < 0 for item in _list(graph.tensors) for side in _list(item.shape)):
            raise DamagedError("a tensor has a negative side")
        for item in _list(graph.operators):
            _within("operator's code", [item.opcodeIndex], codes)
            _within("operator's input", _list(item.inputs), tensors, least=-1)  # -1: left out
            _within("operator's output", _list(item.outputs), tensors)
            _within("operator's intermediate", _list(item.intermediates), tensors)
    for item in _list(model.signatureDefs):
        _within("signature's graph", [item.subgraphIndex], len(model.subgraphs))
        tensors = len(_list(model.subgraphs[item.subgraphIndex].tensors))
        named = [*_list(item.inputs), *_list(item.outputs)]
        _within("signature's tensor", (entry.tensorIndex for entry in named), tensors)


def _list(values: Any) -> list[Any]:
    """Return a vector of the schema as a list; one that is left out is None."""
    return [] if values is None else list(values)


def _within(what: str, indices: Iterable[Any], count: int, least: int = 0) -> None:
    wrong = next((index for index in indices if not least <= index < count), None)
    if wrong is not None:
        raise DamagedError(f"the {what} is number {wrong}, of {count}")
