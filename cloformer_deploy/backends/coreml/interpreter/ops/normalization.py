"""Reductions, softmax and normalizations (MIL: reduction, activation, normalization)."""

import torch
from torch import Tensor
from torch.nn import functional

from cloformer_deploy.backends.coreml.interpreter.ops.registry import operator


@operator("reduce_mean")
def reduce_mean(x: Tensor, axes: tuple[int, ...] | None = None, keep_dims: bool = False) -> Tensor:
    """The mean over `axes`, by default all."""
    return x.mean(_axes(x, axes), keep_dims)


@operator("reduce_sum")
def reduce_sum(x: Tensor, axes: tuple[int, ...] | None = None, keep_dims: bool = False) -> Tensor:
    """The sum over `axes`, by default all."""
    return x.sum(_axes(x, axes), keep_dims)


@operator("reduce_max")
def reduce_max(x: Tensor, axes: tuple[int, ...] | None = None, keep_dims: bool = False) -> Tensor:
    """The maximum over `axes`, by default all."""
    return x.amax(_axes(x, axes), keep_dims)


@operator("softmax")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`."""
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
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, each of [C], for x (N, C, *D)."""
    return functional.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


@operator("instance_norm")
def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """Normalize each channel of each sample of x (N, C, *D), times gamma plus beta, each of [C]."""
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
    """Normalize over `axes` together, times gamma plus beta, each of x's sizes there."""
    over = {axis % x.ndim for axis in axes}
    shape = tuple(size if axis in over else 1 for axis, size in enumerate(x.shape))
    return _scaled(_normalized(x, tuple(over), epsilon), gamma, beta, shape)


def _axes(x: Tensor, axes: tuple[int, ...] | None) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axes is None else axes


def _normalized(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centered = x - x.mean(axes, keepdim=True)
    return centered / torch.sqrt((centered * centered).mean(axes, keepdim=True) + epsilon)


def _scaled(x: Tensor, gamma: Tensor | None, beta: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    if gamma is not None:
        x = x * gamma.reshape(shape)
    return x if beta is None else x + beta.reshape(shape)
