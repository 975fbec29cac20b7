"""Convolutions, matrix products and pooling (MIL: conv, linear, pool)."""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from cloformer_deploy.backends.coreml.interpreter.ops.registry import operator

_CONV = (functional.conv1d, functional.conv2d, functional.conv3d)
_AVG_POOL = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
_MAX_POOL = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)


@operator("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply x (..., D_in) by weight (D_out, D_in) transposed, plus bias (D_out)."""
    return functional.linear(x, weight, bias)


@operator("matmul")
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """The matrix product over the last two axes, broadcast over the others."""
    return torch.matmul(x.mT if transpose_x else x, y.mT if transpose_y and y.ndim > 1 else y)


@operator("einsum")
def einsum(values: list[Tensor], equation: str) -> Tensor:
    """The product `equation` describes; axes of size 1 are broadcast."""
    return torch.einsum(equation, values)


@operator("conv")
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: tuple[int, ...] | None = None,
    pad_type: str = "valid",
    pad: tuple[int, ...] | None = None,
    dilations: tuple[int, ...] | None = None,
    groups: int = 1,
) -> Tensor:
    """Convolution of x (N, C_in, *D), D of 1 to 3 axes, with weight (C_out, C_in / groups, *K)."""
    ones = (1,) * (x.ndim - 2)
    strides, dilations = strides or ones, dilations or ones
    kernel = [(size - 1) * gap + 1 for size, gap in zip(weight.shape[2:], dilations, strict=True)]
    x, padding = _pad(x, _pairs(pad_type, pad, x.shape[2:], kernel, strides))
    out: Tensor = _CONV[x.ndim - 3](x, weight, bias, strides, padding, dilations, groups)
    return out


@operator("avg_pool")
def avg_pool(
    x: Tensor,
    kernel_sizes: tuple[int, ...],
    pad_type: str,
    strides: tuple[int, ...] | None = None,
    pad: tuple[int, ...] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """Means of windows of x (N, C, *D), D of 1 to 3 axes."""
    strides = strides or (1,) * (x.ndim - 2)
    pool = _AVG_POOL[x.ndim - 3]
    padded, padding = _pad(x, _pairs(pad_type, pad, x.shape[2:], kernel_sizes, strides))
    out: Tensor = pool(padded, kernel_sizes, strides, padding, ceil_mode, not exclude_padding_from_average)
    if exclude_padding_from_average and padded is not x:
        inside, _ = _pad(torch.ones_like(x), _pairs(pad_type, pad, x.shape[2:], kernel_sizes, strides))
        out = out / pool(inside, kernel_sizes, strides, padding, ceil_mode)
    return out


@operator("max_pool")
def max_pool(
    x: Tensor,
    kernel_sizes: tuple[int, ...],
    pad_type: str,
    strides: tuple[int, ...] | None = None,
    pad: tuple[int, ...] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Maxima of windows of x (N, C, *D), D of 1 to 3 axes."""
    strides = strides or (1,) * (x.ndim - 2)
    x, padding = _pad(x, _pairs(pad_type, pad, x.shape[2:], kernel_sizes, strides), fill=float("-inf"))
    out: Tensor = _MAX_POOL[x.ndim - 3](x, kernel_sizes, strides, padding, ceil_mode=ceil_mode)
    return out


def _pairs(
    pad_type: str, pad: tuple[int, ...] | None, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """The padding before and after each axis; `kernel` with its gaps.

    "same" makes each size ceil(size / stride), with the odd element after, "same_lower" before (MIL:
    aggregated_pad).
    """
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type == "custom":
        flat = pad or (0, 0) * len(sizes)
        return list(zip(flat[::2], flat[1::2], strict=True))
    pairs = []
    for size, window, stride in zip(sizes, kernel, strides, strict=True):
        total = max(0, stride * ceil(size / stride) - size + window - stride)
        less, more = total // 2, total - total // 2
        pairs.append({"same": (less, more), "same_lower": (more, less)}[pad_type])
    return pairs


def _pad(x: Tensor, pairs: list[tuple[int, int]], fill: float = 0.0) -> tuple[Tensor, list[int]]:
    """What to call torch with: it pads both sides alike; any other padding is applied here."""
    if all(before == after for before, after in pairs):
        return x, [before for before, _ in pairs]
    return functional.pad(x, [size for pair in reversed(pairs) for size in pair], value=fill), [0] * len(pairs)
