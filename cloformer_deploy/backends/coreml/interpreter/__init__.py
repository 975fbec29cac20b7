"""The reference interpreter: runs a saved Core ML program (an `.mlpackage` of type ML program) on any system.

Core ML itself runs models on macOS only. The interpreter reads the protobuf and the weights of an `.mlpackage` and
runs its operations in torch, so that the outputs of a file can be checked without a Mac.
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
