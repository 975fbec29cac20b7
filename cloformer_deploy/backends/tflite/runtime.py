"""LiteRT (the maintained TFLite runtime) on the CPU, with its XNNPACK delegate."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import package_missing
from cloformer_deploy.errors import BundleError, MissingPartError, ToolError
from cloformer_deploy.system.packages import require


class LiteRT:
    """See `Runtime`."""

    name = "litert"
    title = "LiteRT (CPU, XNNPACK)"
    format = "tflite"

    def missing(self) -> MissingPartError | None:
        """See `Runtime.missing`."""
        return package_missing("ai_edge_litert", extra="tflite")

    def version(self) -> str:
        """See `Runtime.version`."""
        return version("ai-edge-litert")

    def open(self, path: Path, threads: int = 1) -> "LiteRTSession":
        """See `Runtime.open`."""
        require("ai_edge_litert", extra="tflite")
        return LiteRTSession(path, threads)


@contextmanager
def _native_log_dropped() -> Iterator[None]:
    """Drop what native code writes to standard error: LiteRT announces its delegate there, and has no switch for it."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


class LiteRTSession:
    """See `Session`."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{path} is not a TFLite file: {error}", "export it again") from error
        try:
            with _native_log_dropped():
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ToolError(f"LiteRT cannot prepare {path}: {error}", "export it again") from error
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self.batch: int | None = int(self._input["shape"][0])

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """See `Session.run`."""
        try:
            self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
            self._interpreter.invoke()
            return np.array(self._interpreter.get_tensor(self._output), np.float32)
        except (ValueError, RuntimeError) as error:
            message = f"LiteRT failed on an input {images.dtype} {images.shape}: {error}"
            raise ToolError(message, "export it again") from error
