"""Reading TFLite files."""

import struct
from pathlib import Path
from typing import Any

from cloformer_deploy.errors import BundleError
from cloformer_deploy.system.packages import require


def load_model(path: Path) -> Any:
    """Read a TFLite file as the schema's `ModelT` object.

    Raises:
        BundleError: not a TFLite file, or damaged.
        MissingPartError: ai-edge-litert is not installed.
    """
    require("ai_edge_litert", extra="tflite")
    from ai_edge_litert.tools import flatbuffer_utils

    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise BundleError(f"{path} is not a TFLite file: its identifier is {content[4:8]!r}", "give a .tflite file")
    try:
        model = flatbuffer_utils.convert_bytearray_to_object(content)
        _resolve_buffers(model, content)
        if not model.subgraphs or not model.subgraphs[0].operators:
            raise BundleError(f"{path} is a TFLite file without a graph", "export it again")
    # Flatbuffers has no verifier in Python: a damaged file shows as whatever its wrong offsets lead to.
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError, struct.error) as error:
        raise BundleError(f"{path} is damaged: {error}", "export it again") from error
    return model


def _resolve_buffers(model: Any, content: bytes) -> None:
    """Read the buffers that lie behind the flatbuffer proper, where the quantizer puts them."""
    for buffer in model.buffers:
        if buffer.offset:
            if buffer.offset + buffer.size > len(content):
                raise ValueError(f"a buffer ends at byte {buffer.offset + buffer.size}, the file at {len(content)}")
            buffer.data = content[buffer.offset : buffer.offset + buffer.size]
