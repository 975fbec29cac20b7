"""Reductions, softmax and normalizations.

Sources in coremltools' MIL operations: iOS15/reduction.py, iOS15/activation.py (`softmax`), iOS15/normalization.py and
their iOS 17 versions. Negative axes count from the end.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cloformer_deploy.backends.coreml.interpreter.ops.registry import operator


@operator("reduce_mean")
def reduce_mean(x: Tensor, axes: tuple[int, ...] | None = None, keep_dims: bool = False) -> Tensor:
    """Return the mean over `axes`, by default over all; with `keep_dims` the reduced axes stay, with size 1."""
    return x.mean(_axes(x, axes), keep_dims)


@operator("reduce_sum")
def reduce_sum(x: Tensor, axes: tuple[int, ...] | None = None, keep_dims: bool = False) -> Tensor:
    """Return the sum over `axes`, by default over all; with `keep_dims` the reduced axes stay, with size 1."""
    return x.sum(_axes(x, axes), keep_dims)


@operator("reduce_max")
def reduce_max(x: Tensor, axes: tuple[int, ...] | None = None, keep_dims: bool = False) -> Tensor:
    """Return the maximum over `axes`, by default over all; with `keep_dims` the reduced axes stay, with size 1."""
    return x.amax(_axes(x, axes), keep_dims)


@operator("reduce_argmax", rounded=False)
def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Return the index of the largest element along `axis`, int32 or uint16; of equal ones MIL promises none."""
    return x.argmax(axis, keep_dims).to(torch.uint16 if output_dtype == "uint16" else torch.int32)


@operator("softmax")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return exp(x) / sum(exp(x)), with the sum along `axis`."""
    return x.softmax(axis)


@operator("batch_norm")
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Return (x - mean) / sqrt(variance + epsilon) * gamma + beta.

    Args:
        x: (N, C, *D).
        mean: (C,).
        variance: (C,).
        gamma: (C,); 1 by default.
        beta: (C,); 0 by default.
        epsilon: added to the variance.
    """
    return functional.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


@operator("instance_norm")
def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """Normalize each channel of each sample to mean 0 and variance 1, then multiply by gamma and add beta.

    Args:
        x: (N, C, *D).
        gamma: (C,); 1 by default.
        beta: (C,); 0 by default.
        epsilon: added to the variance.
    """
    shape = (-1, *(1 for _ in x.shape[2:]))
    return _scaled(_normalized(x, tuple(range(2, x.ndim)), epsilon), gamma, beta, shape)


@operator("layer_norm")
def layer_norm(
    x: Tensor,
    axes: tuple[int, ...],
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalize x to mean 0 and variance 1 over `axes` together, then multiply by gamma and add beta.

    Args:
        x: tensor of any shape.
        axes: the axes to normalize over.
        gamma: the shape of x without its other axes; 1 by default.
        beta: like gamma; 0 by default.
        epsilon: added to the variance.
    """
    normalized_axes = {axis % x.ndim for axis in axes}
    shape = tuple(size if axis in normalized_axes else 1 for axis, size in enumerate(x.shape))
    return _scaled(_normalized(x, tuple(normalized_axes), epsilon), gamma, beta, shape)


def _axes(x: Tensor, axes: tuple[int, ...] | None) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axes is None else axes


def _normalized(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centered = x - x.mean(axes, keepdim=True)
    return centered / torch.sqrt((centered * centered).mean(axes, keepdim=True) + epsilon)


def _scaled(x: Tensor, gamma: Tensor | None, beta: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    if gamma is not None:
        x = x * gamma.reshape(shape)
    return x if beta is None else x + beta.reshape(shape)
