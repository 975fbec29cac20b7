"""Linear layers of vectors as convolutions.

Apple's interpreter rounds every sum in a float16 product of matrices (52 dB for 256 terms), and a convolution's result
once (70 dB); the Neural Engine is made for convolutions.
"""

from typing import Any


def convolved(x: Any, weight: Any, bias: Any = None) -> Any:
    """Decompose `aten.linear`, for `ExportedProgram.run_decompositions`: of vectors as said, else as a product.

    Args:
        x: (B, C) or (..., C).
        weight: (outputs, inputs).
        bias: (outputs,).
    """
    from torch.nn import functional

    if x.dim() != 2:
        product = x @ weight.transpose(0, 1)
        return product if bias is None else product + bias
    return functional.conv2d(x[:, :, None, None], weight[:, :, None, None], bias)[:, :, 0, 0]
