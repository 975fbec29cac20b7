"""The reference interpreter: executes a saved Core ML ML program from its files, on any system.

Core ML itself predicts on macOS only. This reads the protobuf and the weights of an `.mlpackage` and runs
its operations in torch, so that what a file computes can be checked where there is no Mac.
"""

from cloformer_deploy.backends.coreml.interpreter.float16 import Float16Hazards, float16_hazards
from cloformer_deploy.backends.coreml.interpreter.interpreter import Observer, Output, Program
from cloformer_deploy.backends.coreml.interpreter.package import Feature, Package
from cloformer_deploy.backends.coreml.interpreter.weights import compare_weights

__all__ = [
    "Feature",
    "Float16Hazards",
    "Observer",
    "Output",
    "Package",
    "Program",
    "compare_weights",
    "float16_hazards",
]
