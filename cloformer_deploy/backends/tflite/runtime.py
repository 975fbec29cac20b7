"""LiteRT (the maintained TFLite runtime) on the CPU, with its XNNPACK delegate."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.backends.base import Feed
from cloformer_deploy.backends.failures import package_missing, run_failed
from cloformer_deploy.backends.tflite.file import load_model
from cloformer_deploy.backends.tflite.suppressed import APP_OUTPUTS, CELLS, in_common_form
from cloformer_deploy.errors import BundleError, MissingPartError, ToolError
from cloformer_deploy.system.files import reachable
from cloformer_deploy.system.packages import require
from cloformer_deploy.tasks.base import Outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LiteRT:
    """See `Runtime`."""

    name = "litert"
    title = "LiteRT (CPU, XNNPACK)"

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
def native_log_dropped() -> Iterator[None]:
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

        load_model(path)  # checks what LiteRT would follow out of the file
        try:
            with reachable(path) as file:
                self._interpreter = Interpreter(model_path=str(file), num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{path} is not a TFLite file: {error}", "export it again") from error
        try:
            with native_log_dropped():
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ToolError(f"LiteRT cannot prepare {path}: {error}", "export it again") from error
        self._inputs = {item["name"]: item for item in self._interpreter.get_input_details()}
        self._outputs = {item["name"]: item for item in self._interpreter.get_output_details()}
        self._suppresses = self._outputs.keys() >= set(APP_OUTPUTS)
        if self._suppresses:  # what the last operator takes is still there when it has run
            every = {item["name"]: item for item in self._interpreter.get_tensor_details()}
            self._outputs.update({name: every[name] for name in CELLS if name in every})
        self.batch: int | None = int(self._interpreter.get_input_details()[0]["shape"][0])

    def run(self, feed: Feed) -> Outputs:
        """See `Session.run`."""
        try:
            for name, values in feed.items():
                detail = self._inputs[name]
                self._interpreter.set_tensor(detail["index"], stored(channels_last(values), detail))
            self._interpreter.invoke()
            found = {
                name: numbers(self._interpreter.get_tensor(detail["index"]), detail)
                for name, detail in self._outputs.items()
            }
        except (KeyError, ValueError, RuntimeError) as error:
            raise run_failed("LiteRT", feed, error) from error
        outputs = {name: channels_first(values) for name, values in found.items()}
        return in_common_form(outputs) if self._suppresses else outputs


def stored(values: "NDArray[Any]", detail: Mapping[str, Any]) -> "NDArray[Any]":
    """Return floats as a tensor stores them: the integers of its scale and zero point, where it has these.

    Source: https://ai.google.dev/edge/litert/models/quantization_spec
    """
    import numpy as np

    scale, zero_point = detail["quantization"]
    if not scale or values.dtype.kind != "f":
        return values
    limits = np.iinfo(detail["dtype"])
    integers = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
    return np.asarray(integers, detail["dtype"])


def numbers(values: "NDArray[Any]", detail: Mapping[str, Any]) -> "NDArray[Any]":
    """Return what a tensor stores as the numbers that it stands for; the inverse of `stored`."""
    import numpy as np

    scale, zero_point = detail["quantization"]
    if not scale:
        return values
    return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def channels_last(values: "NDArray[Any]") -> "NDArray[Any]":
    """Return (B, C, H, W) as (B, H, W, C); arrays of other ranks as they are."""
    import numpy as np

    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)) if values.ndim == 4 else values


def channels_first(values: "NDArray[Any]") -> "NDArray[np.float32]":
    """Return a copy of (B, H, W, C) as (B, C, H, W), float32; arrays of other ranks keep their axes."""
    import numpy as np

    return np.array(values.transpose(0, 3, 1, 2) if values.ndim == 4 else values, np.float32)
