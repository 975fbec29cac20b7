"""Convolutions, matrix products and pooling.

Sources in coremltools' MIL operations: iOS15/conv.py, iOS15/linear.py, iOS15/pool.py and their iOS 17 versions.
"""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from cloformer_deploy.backends.coreml.interpreter.ops.registry import operator

_CONV = (functional.conv1d, functional.conv2d, functional.conv3d)
_CONV_TRANSPOSE = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)
_AVG_POOL = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
_MAX_POOL = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)


@operator("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias: (..., D_out), for x (..., D_in), weight (D_out, D_in) and bias (D_out,)."""
    return functional.linear(x, weight, bias)


@operator("matmul")
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Return the matrix product over the last two axes; the other axes are broadcast.

    Args:
        x: (..., M, K), or (..., K, M) with `transpose_x`.
        y: (..., K, N), or (..., N, K) with `transpose_y`.
        transpose_x: transpose the last two axes of x first.
        transpose_y: transpose the last two axes of y first.

    Returns:
        (..., M, N).
    """
    return torch.matmul(x.mT if transpose_x else x, y.mT if transpose_y and y.ndim > 1 else y)


@operator("einsum")
def einsum(values: list[Tensor], equation: str) -> Tensor:
    """Return the tensor product that `equation` describes, for example "nchw,nwhu->nchu"; size 1 is broadcast."""
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
    """Convolve x with weight.

    Args:
        x: (N, C_in, *D), D being 1 to 3 spatial axes.
        weight: (C_out, C_in / groups, *K).
        bias: (C_out,); 0 by default.
        strides: one per spatial axis; 1 by default.
        pad_type: "valid", "same", "same_lower" or "custom".
        pad: for "custom": the padding before and after each spatial axis.
        dilations: one per spatial axis; 1 by default.
        groups: the number of groups that the channels are divided into.

    Returns:
        (N, C_out, *D_out).
    """
    ones = (1,) * (x.ndim - 2)
    strides, dilations = strides or ones, dilations or ones
    kernel = [(size - 1) * gap + 1 for size, gap in zip(weight.shape[2:], dilations, strict=True)]
    x, padding = _pad(x, _pairs(pad_type, pad, x.shape[2:], kernel, strides))
    out: Tensor = _CONV[x.ndim - 3](x, weight, bias, strides, padding, dilations, groups)
    return out


@operator("conv_transpose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: tuple[int, ...] | None = None,
    output_shape: tuple[int, ...] | None = None,
    pad_type: str = "valid",
    strides: tuple[int, ...] | None = None,
    dilations: tuple[int, ...] | None = None,
    groups: int = 1,
) -> Tensor:
    """Spread x over windows of weight, which are summed where they overlap.

    Args:
        x: (N, C_in, *D), D being 1 to 3 spatial axes.
        weight: (C_in, C_out / groups, *K).
        bias: (C_out,); 0 by default.
        pad: for "custom": what is cut off before and after each spatial axis.
        output_shape: the size of each axis of the result; not supported with "same".
        pad_type: "valid" or "custom".
        strides: one per spatial axis; 1 by default.
        dilations: one per spatial axis; 1 by default.
        groups: the number of groups that the channels are divided into.

    Returns:
        (N, C_out, *D_out).

    Raises:
        ValueError: the padding is of another type, or the result has another shape than is said.
    """
    ones = (1,) * (x.ndim - 2)
    if pad_type not in ("valid", "custom"):
        raise ValueError(f"conv_transpose with pad_type {pad_type!r} is not supported")
    out: Tensor = _CONV_TRANSPOSE[x.ndim - 3](x, weight, bias, strides or ones, 0, 0, groups, dilations or ones)
    cut = pad if pad is not None and pad_type == "custom" else (0, 0) * len(ones)
    for axis, (before, after) in enumerate(zip(cut[::2], cut[1::2], strict=True), start=2):
        out = out.narrow(axis, before, out.shape[axis] - before - after)
    if output_shape is not None and tuple(output_shape) != tuple(out.shape):
        raise ValueError(f"conv_transpose gives {tuple(out.shape)}, not {output_shape}")
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
    """Return the mean of each window of x.

    Args:
        x: (N, C, *D), D being 1 to 3 spatial axes.
        kernel_sizes: the size of a window, one per spatial axis.
        pad_type: "valid", "same", "same_lower" or "custom".
        strides: one per spatial axis; 1 by default.
        pad: for "custom": the padding before and after each spatial axis.
        exclude_padding_from_average: if True, padding does not count as elements of a window.
        ceil_mode: if True, the output size is rounded up, so that the last window may be incomplete.

    Returns:
        (N, C, *D_out).
    """
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
    """Return the maximum of each window of x; padding does not count. See `avg_pool` for the arguments."""
    strides = strides or (1,) * (x.ndim - 2)
    x, padding = _pad(x, _pairs(pad_type, pad, x.shape[2:], kernel_sizes, strides), fill=float("-inf"))
    out: Tensor = _MAX_POOL[x.ndim - 3](x, kernel_sizes, strides, padding, ceil_mode=ceil_mode)
    return out


def _pairs(
    pad_type: str, pad: tuple[int, ...] | None, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the padding before and after each spatial axis.

    With "same" and "same_lower" each output size is ceil(size / stride). If the total padding is odd, "same" adds the
    additional element after the axis, "same_lower" before it (`aggregated_pad` in MIL's ops/defs/_utils.py).

    Args:
        pad_type: "valid", "same", "same_lower" or "custom".
        pad: the padding for "custom".
        sizes: the input size of each spatial axis.
        kernel: the size of a window on each axis, including the gaps of dilation.
        strides: the stride of each axis.
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
    """Return the tensor and the padding to pass to torch.

    torch pads both sides of an axis equally. If `pairs` is different from that, the padding is applied to the
    tensor here, and the padding for torch is 0.
    """
    if all(before == after for before, after in pairs):
        return x, [before for before, _ in pairs]
    return functional.pad(x, [size for pair in reversed(pairs) for size in pair], value=fill), [0] * len(pairs)
