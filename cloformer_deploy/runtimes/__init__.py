"""The runtimes that execute artefacts: one class each behind the Protocol `Runtime`, in one registry."""

from cloformer_deploy.runtimes.base import Runtime, Session
from cloformer_deploy.runtimes.coreml import CoreML, CoreMLInterpreter
from cloformer_deploy.runtimes.litert import LiteRT
from cloformer_deploy.runtimes.onnxruntime import OnnxRuntime

RUNTIMES: dict[str, Runtime] = {item.name: item for item in (OnnxRuntime(), LiteRT(), CoreML(), CoreMLInterpreter())}


def runtime_for(format_name: str) -> Runtime:
    """The runtime that executes a format on this machine: the first that lacks nothing, else the last."""
    candidates = [runtime for runtime in RUNTIMES.values() if runtime.format == format_name]
    return next((runtime for runtime in candidates if runtime.missing() is None), candidates[-1])


__all__ = ["RUNTIMES", "Runtime", "Session", "runtime_for"]
