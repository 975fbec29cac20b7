"""Options of ONNX files."""

from typing import Literal

from cloformer_deploy.system.schema import Strict


class OnnxOptions(Strict):
    """Options of an ONNX file.

    Attributes:
        opset: version of the operator set. 20 is the first with a native Gelu; opset 21's GroupNormalization has no CPU
            kernel in ONNX Runtime.
    """

    opset: Literal[20] = 20
