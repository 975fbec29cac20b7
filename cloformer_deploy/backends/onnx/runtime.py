"""ONNX Runtime on the CPU."""

from importlib.metadata import version
from pathlib import Path

from cloformer_deploy.backends.base import Feed
from cloformer_deploy.backends.failures import package_missing, run_failed
from cloformer_deploy.backends.onnx.file import load_model
from cloformer_deploy.errors import MissingPartError, ToolError
from cloformer_deploy.system.files import reachable
from cloformer_deploy.system.packages import require
from cloformer_deploy.tasks.base import Outputs

_ERRORS_ONLY = 3
_EXACT_INTEGERS = ("session.x64quantprecision", "1")
"""Session option: exact integer products on x86 without VNNI, where ONNX Runtime otherwise adds pairs of products in
16 bits, which saturate. Arm and VNNI are always exact. Source: onnxruntime_session_options_config_keys.h."""


class OnnxRuntime:
    """See `Runtime`."""

    name = "onnxruntime"
    title = "ONNX Runtime (CPU)"

    def missing(self) -> MissingPartError | None:
        """See `Runtime.missing`."""
        return package_missing("onnxruntime", "onnx", extra="onnx")

    def version(self) -> str:
        """See `Runtime.version`."""
        return version("onnxruntime")

    def open(self, path: Path, threads: int = 1) -> "OnnxSession":
        """See `Runtime.open`."""
        require("onnxruntime", extra="onnx")
        load_model(path)  # rejects weights kept in other files, which the runtime would open
        return OnnxSession(path, threads)


class OnnxSession:
    """See `Session`."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry(*_EXACT_INTEGERS)
        try:
            with reachable(path) as file:
                self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception classes share no base but Exception
            raise ToolError(f"ONNX Runtime cannot load {path}: {error}", "export it again") from error
        batch = self._session.get_inputs()[0].shape[0]
        self._outputs = [value.name for value in self._session.get_outputs()]
        self.batch: int | None = batch if isinstance(batch, int) else None

    def run(self, feed: Feed) -> Outputs:
        """See `Session.run`."""
        import numpy as np

        try:
            computed = self._session.run(self._outputs, dict(feed))
        except Exception as error:
            raise run_failed("ONNX Runtime", feed, error) from error
        return {name: np.asarray(values, np.float32) for name, values in zip(self._outputs, computed, strict=True)}
