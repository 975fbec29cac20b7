"""Opens ONNX files on a device for `bench`; stand-alone, for Python 3.8 and later (see `backends.base.Opener`)."""

# ruff: noqa: UP006, UP035, UP045 - Python 3.8 has no `dict[str, Any]` or `str | None`
from typing import Any, Callable, Dict, Optional


def open_file(path: str, threads: int, unit: Optional[str]) -> Callable[[Dict[str, Any]], Dict[str, Any]]:  # noqa: ARG001
    """Load a file; the returned function takes and gives arrays by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, feed)))  # noqa: B905 - Python 3.8 has no `strict`
