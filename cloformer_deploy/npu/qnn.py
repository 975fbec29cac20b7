"""Run ONNX Runtime's QNN provider in a process of its own, for `hexagon`.

The vendor's libraries print to standard output, write files to the working directory, and may crash.
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
TRACE = "qnn_op_trace.json"
"""File of the working directory in which the provider lists its operators and those it does not support."""
_PROVIDER = "QNNExecutionProvider"
_ERRORS_ONLY = 3


def compiled(path: str, architecture: int, output: str) -> None:
    """Compile a file into another one, and write `TRACE` into the output's folder.

    Raises:
        RuntimeError: the provider's own message.
    """
    os.chdir(Path(output).parent)
    entries = {"ep.context_enable": "1", "ep.context_embed_mode": "1", "ep.context_file_path": output}
    _session(path, architecture, entries, {"enable_framework_op_trace": "1"})


def run(path: str, architecture: int, feed: Arrays) -> Arrays:
    """Run a file in the simulator on one batch; a process compiles each file once.

    Raises:
        RuntimeError: the provider's own message.
    """
    session = _opened(path, architecture)
    names = [value.name for value in session.get_outputs()]
    try:
        found = session.run(names, dict(feed))
    except Exception as error:  # its classes share no base but Exception, and some cannot be sent to another process
        raise RuntimeError(str(error)) from None
    return {name: np.asarray(values, np.float32) for name, values in zip(names, found, strict=True)}


@lru_cache(maxsize=1)
def _opened(path: str, architecture: int) -> Any:
    return _session(path, architecture, {}, {})


def _session(path: str, architecture: int, entries: Mapping[str, str], options: Mapping[str, str]) -> Any:
    import onnxruntime
    import onnxruntime_qnn

    try:
        devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == _PROVIDER]
        if not devices:
            onnxruntime.register_execution_provider_library(_PROVIDER, onnxruntime_qnn.get_library_path())
            devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == _PROVIDER]
        session = onnxruntime.SessionOptions()
        session.log_severity_level = _ERRORS_ONLY
        for name, value in entries.items():
            session.add_session_config_entry(name, value)
        chosen = {
            "backend_path": onnxruntime_qnn.get_qnn_htp_path(),
            "htp_arch": str(architecture),
            "offload_graph_io_quantization": "0",
            **options,
        }
        session.add_provider_for_devices(devices[:1], chosen)
        return onnxruntime.InferenceSession(path, session)
    except Exception as error:
        raise RuntimeError(str(error)) from None


def plain_name(name: str) -> str:
    """Return the name of a node of the file, without the number that the provider appends."""
    return re.sub(r"_token_\d+$", "", name)
