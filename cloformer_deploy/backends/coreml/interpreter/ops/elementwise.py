"""Element-wise operations and activations.

Sources in coremltools' MIL operations: iOS15/elementwise_binary.py, iOS15/elementwise_unary.py,
iOS15/activation.py and iOS15/tensor_operation.py (`identity`), and their iOS 17 versions.

All take tensors of any shape. Binary operations broadcast x and y. The result of every operation except `cast` has
the element type of its first tensor.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cloformer_deploy.backends.coreml.interpreter.ops.registry import operator
from cloformer_deploy.backends.coreml.interpreter.types import TORCH_DTYPES

_CAST_NAMES = {"fp16": "float16", "fp32": "float32"}


@operator("add")
def add(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y."""
    return x + y


@operator("sub")
def sub(x: Tensor, y: Tensor) -> Tensor:
    """Return x - y."""
    return x - y


@operator("mul")
def mul(x: Tensor, y: Tensor) -> Tensor:
    """Return x * y."""
    return x * y


@operator("real_div")
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """Return x / y."""
    return x / y


@operator("pow")
def power(x: Tensor, y: Tensor) -> Tensor:
    """Return x to the power of y."""
    return torch.pow(x, y)


@operator("maximum")
def maximum(x: Tensor, y: Tensor) -> Tensor:
    """Return the larger of x and y."""
    return torch.maximum(x, y)


@operator("minimum")
def minimum(x: Tensor, y: Tensor) -> Tensor:
    """Return the smaller of x and y."""
    return torch.minimum(x, y)


@operator("clip")
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Return x, but alpha where it is smaller, and beta where it is larger."""
    return torch.clamp(x, alpha, beta)


@operator("square")
def square(x: Tensor) -> Tensor:
    """Return x * x."""
    return x * x


@operator("sqrt")
def sqrt(x: Tensor) -> Tensor:
    """Return the square root of x."""
    return torch.sqrt(x)


@operator("rsqrt")
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """Return 1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


@operator("exp")
def exp(x: Tensor) -> Tensor:
    """Return e to the power of x."""
    return torch.exp(x)


@operator("erf")
def erf(x: Tensor) -> Tensor:
    """Return the error function of x."""
    return torch.erf(x)


@operator("tanh")
def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent of x."""
    return torch.tanh(x)


@operator("sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


@operator("silu")
def silu(x: Tensor) -> Tensor:
    """Return x * sigmoid(x)."""
    return functional.silu(x)


@operator("relu")
def relu(x: Tensor) -> Tensor:
    """Return max(x, 0)."""
    return functional.relu(x)


@operator("relu6")
def relu6(x: Tensor) -> Tensor:
    """Return x between 0 and 6."""
    return functional.relu6(x)


@operator("leaky_relu")
def leaky_relu(x: Tensor, alpha: float = 0.01) -> Tensor:
    """Return x, but alpha * x where it is negative."""
    return functional.leaky_relu(x, alpha)


@operator("thresholded_relu")
def thresholded_relu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Return x, but 0 where it is smaller than alpha."""
    return torch.where(x >= alpha, x, torch.zeros_like(x))


@operator("elu")
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Return x, but alpha * (exp(x) - 1) where it is negative."""
    return functional.elu(x, alpha)


@operator("softplus")
def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x))."""
    return functional.softplus(x)


@operator("sigmoid_hard")
def sigmoid_hard(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """Return alpha * x + beta, between 0 and 1."""
    return torch.clamp(alpha * x + beta, 0, 1)


@operator("abs")
def absolute(x: Tensor) -> Tensor:
    """Return x without its sign."""
    return torch.abs(x)


@operator("gelu")
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Return the Gaussian error linear unit of x.

    Args:
        x: float tensor.
        mode: "EXACT": 0.5 * x * (1 + erf(x / sqrt(2))); "TANH_APPROXIMATION":
            0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))); "SIGMOID_APPROXIMATION":
            x * sigmoid(1.702 * x).
    """
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate={"EXACT": "none", "TANH_APPROXIMATION": "tanh"}[mode])


@operator("cast", rounded=False)
def cast(x: Tensor, dtype: str) -> Tensor:
    """Convert x to another element type; floats are truncated to integers.

    Args:
        x: tensor of any type.
        dtype: MIL's name of the type, for example "fp16", "fp32" or "int32".
    """
    return x.to(TORCH_DTYPES[_CAST_NAMES.get(dtype, dtype)])


@operator("identity", rounded=False)
def identity(x: Tensor) -> Tensor:
    """Return x unchanged."""
    return x
