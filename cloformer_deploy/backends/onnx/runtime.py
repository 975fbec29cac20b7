"""ONNX Runtime on the CPU."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import package_missing
from cloformer_deploy.backends.onnx.file import load_model
from cloformer_deploy.errors import MissingPartError, ToolError
from cloformer_deploy.system.packages import require

_ERRORS_ONLY = 3


class OnnxRuntime:
    """See `Runtime`."""

    name = "onnxruntime"
    title = "ONNX Runtime (CPU)"
    format = "onnx"

    def missing(self) -> MissingPartError | None:
        """See `Runtime.missing`."""
        return package_missing("onnxruntime", "onnx", extra="onnx")

    def version(self) -> str:
        """See `Runtime.version`."""
        return version("onnxruntime")

    def open(self, path: Path, threads: int = 1) -> "OnnxSession":
        """See `Runtime.open`."""
        require("onnxruntime", extra="onnx")
        load_model(path)  # refuses weights kept in other files, which the runtime would open
        return OnnxSession(path, threads)


class OnnxSession:
    """See `Session`."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception classes share no base but Exception
            raise ToolError(f"ONNX Runtime cannot load {path}: {error}", "export it again") from error
        self._input = self._session.get_inputs()[0]
        batch = self._input.shape[0]
        self.batch: int | None = batch if isinstance(batch, int) else None

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """See `Session.run`."""
        try:
            outputs = self._session.run(None, {self._input.name: images})
        except Exception as error:
            message = f"ONNX Runtime failed on an input {images.dtype} {images.shape}: {error}"
            raise ToolError(message, "export it again") from error
        return np.asarray(outputs[0], np.float32)
