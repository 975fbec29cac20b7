"""Reading ONNX files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.errors import BundleError
from cloformer_deploy.system.packages import require

if TYPE_CHECKING:
    import onnx


def load_model(path: Path) -> "onnx.ModelProto":
    """Read a single-file ONNX model; nothing outside the file is opened.

    Raises:
        BundleError: not an ONNX model, or its weights are in other files.
        MissingPartError: onnx is not installed.
    """
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
    outside = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise BundleError(
            f"{path} keeps {len(outside)} weights in other files ({outside[0]}, ...)",
            "save it as one file, for example with onnx.save(onnx.load(FILE), OTHER)",
        )
    return model


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
