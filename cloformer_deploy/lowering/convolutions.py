"""Split a convolution by its output or input channels."""

from collections.abc import Sequence

import torch
from torch import nn


def by_output_channels(conv: nn.Conv2d, sizes: Sequence[int]) -> list[nn.Conv2d]:
    """Split a convolution by output channels: the parts' outputs, concatenated, are the given one's.

    Args:
        conv: an ordinary convolution, or a depthwise one, each of whose parts takes its own channels of the input.
        sizes: output channels of each part; they sum to those of `conv`.
    """
    depthwise = conv.groups == conv.in_channels
    parts = []
    for first, size in zip(_starts(sizes), sizes, strict=True):
        part = nn.Conv2d(
            size if depthwise else conv.in_channels,
            size,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            groups=size if depthwise else 1,
            bias=conv.bias is not None,
        )
        with torch.no_grad():
            part.weight.copy_(conv.weight[first : first + size])
            if part.bias is not None and conv.bias is not None:
                part.bias.copy_(conv.bias[first : first + size])
        parts.append(part)
    return parts


def by_input_channels(conv: nn.Conv2d, sizes: Sequence[int]) -> list[nn.Conv2d]:
    """Split a 1x1 convolution by input channels: the parts' outputs sum to the given one's.

    The first carries the bias. `sizes` are the input channels of each part; they sum to those of `conv`.
    """
    parts = []
    for first, size in zip(_starts(sizes), sizes, strict=True):
        part = nn.Conv2d(size, conv.out_channels, 1, bias=first == 0 and conv.bias is not None)
        with torch.no_grad():
            part.weight.copy_(conv.weight[:, first : first + size])
            if part.bias is not None and conv.bias is not None:
                part.bias.copy_(conv.bias)
        parts.append(part)
    return parts


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:index]) for index in range(len(sizes))]
