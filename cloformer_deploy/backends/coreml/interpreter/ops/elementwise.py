"""Element-wise operations and activations (MIL: elementwise_unary, elementwise_binary, activation)."""

import torch
from torch import Tensor
from torch.nn import functional

from cloformer_deploy.backends.coreml.interpreter.ops.registry import operator
from cloformer_deploy.backends.coreml.interpreter.types import TORCH_DTYPES

_CAST_NAMES = {"fp16": "float16", "fp32": "float32"}


@operator("add")
def add(x: Tensor, y: Tensor) -> Tensor:
    """The sum, broadcast."""
    return x + y


@operator("sub")
def sub(x: Tensor, y: Tensor) -> Tensor:
    """The difference, broadcast."""
    return x - y


@operator("mul")
def mul(x: Tensor, y: Tensor) -> Tensor:
    """The product, broadcast."""
    return x * y


@operator("real_div")
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """The quotient, broadcast."""
    return x / y


@operator("pow")
def power(x: Tensor, y: Tensor) -> Tensor:
    """Raise x to the power of y, broadcast."""
    return torch.pow(x, y)


@operator("maximum")
def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger of x and y, broadcast."""
    return torch.maximum(x, y)


@operator("minimum")
def minimum(x: Tensor, y: Tensor) -> Tensor:
    """The smaller of x and y, broadcast."""
    return torch.minimum(x, y)


@operator("square")
def square(x: Tensor) -> Tensor:
    """The square of x."""
    return x * x


@operator("sqrt")
def sqrt(x: Tensor) -> Tensor:
    """The square root of x."""
    return torch.sqrt(x)


@operator("rsqrt")
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


@operator("exp")
def exp(x: Tensor) -> Tensor:
    """The exponential of x."""
    return torch.exp(x)


@operator("erf")
def erf(x: Tensor) -> Tensor:
    """The error function."""
    return torch.erf(x)


@operator("tanh")
def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return torch.tanh(x)


@operator("sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


@operator("silu")
def silu(x: Tensor) -> Tensor:
    """The product of x and sigmoid(x)."""
    return functional.silu(x)


@operator("relu")
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return functional.relu(x)


@operator("gelu")
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """The product of x and the normal distribution function of x, exact or by one of MIL's two approximations."""
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate={"EXACT": "none", "TANH_APPROXIMATION": "tanh"}[mode])


@operator("cast", rounded=False)
def cast(x: Tensor, dtype: str) -> Tensor:
    """Convert x to another type; floats become integers by dropping the fraction."""
    return x.to(TORCH_DTYPES[_CAST_NAMES.get(dtype, dtype)])


@operator("identity", rounded=False)
def identity(x: Tensor) -> Tensor:
    """Return x."""
    return x
