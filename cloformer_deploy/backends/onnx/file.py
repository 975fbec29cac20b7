"""Reading ONNX files."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.errors import BundleError, ToolError
from cloformer_deploy.system.packages import require
from cloformer_deploy.system.text import counted, listed

if TYPE_CHECKING:
    import onnx


def load_model(path: Path) -> "onnx.ModelProto":
    """Read a single-file ONNX model; nothing outside the file is opened.

    Raises:
        BundleError: not an ONNX model, or it refers to other files, which a runtime would open.
        MissingPartError: onnx is not installed.
    """
    model = _read(path)
    _check_alone(path, model)
    return model


def refuse_other_files(path: Path) -> None:
    """Check a file as `backends.base.Opener.check` does."""
    try:
        model = _read(path)
    except BundleError as error:
        raise ToolError(error.message, error.hint) from error
    _check_alone(path, model)


def _read(path: Path) -> "onnx.ModelProto":
    require("onnx", extra="onnx")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise BundleError(f"{path} is not a readable ONNX model: {error}", "export it again") from error
    if not _is_text(model):
        raise BundleError(f"{path} is damaged: it has names that are not UTF-8", "export it again")
    if not model.graph.node:
        raise BundleError(f"{path} is not an ONNX model: it has no graph", "give an .onnx file")
    return model


def _check_alone(path: Path, model: "onnx.ModelProto") -> None:
    outside = list(_outside(model))
    if outside:
        places = listed(dict.fromkeys(location or "no name" for location in outside))
        raise BundleError(
            f"{path} keeps {counted(len(outside), 'tensor')} of its weights in other files: {places}",
            "export it again, or have it saved as one file",
        )


def _outside(model: "onnx.ModelProto") -> Iterator[str]:
    """Yield the location of each tensor whose numbers are in another file, wherever in the model it is.

    Tensors are constants, sparse constants and attributes, in the graph, its subgraphs, functions and training
    information: every message is looked at.
    """
    import onnx
    from google.protobuf.message import Message

    left: list[Message] = [model]
    while left:
        message = left.pop()
        if isinstance(message, onnx.TensorProto):
            if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
                yield next((item.value for item in message.external_data if item.key == "location"), "")
            continue
        for _, value in message.ListFields():
            values = [value] if isinstance(value, Message) else value
            if not isinstance(values, (bytes, str, int, float)) and len(values) and isinstance(values[0], Message):
                left += values


def _is_text(message: Any) -> bool:
    """Tell whether all texts of a message are UTF-8; protobuf gives those that are not as bytes."""
    from google.protobuf.descriptor import FieldDescriptor

    for field, value in message.ListFields():
        if field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
            continue
        values = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        for item in values:
            if isinstance(item, bytes) or not (isinstance(item, str) or _is_text(item)):
                return False
    return True
