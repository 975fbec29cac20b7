"""Split depthwise kernels of more than 25 taps into kernels of some of their rows, whose outputs are summed.

XNNPACK has depthwise kernels for up to 25 taps; anything larger runs as a grouped convolution, one channel a group,
several times slower. A 7 x 7 kernel becomes 3 x 7 + 3 x 7 + 1 x 7, a 9 x 9 one four of 2 x 9 and one of 1 x 9.
"""

from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloformer_deploy.lowering.shapes import sizes

MAX_TAPS = 25


class RowSplitConv(nn.Module):
    """A depthwise convolution of stride 1, (B, C, H, W) to the same shape, as the sum of convolutions of few rows."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        rows, columns = conv.kernel_size
        height = max(1, MAX_TAPS // columns)
        self.padding = (columns // 2, columns // 2, rows // 2, rows // 2)
        self.first_rows = range(0, rows, height)
        self.heights = [min(height, rows - first) for first in self.first_rows]
        self.parts = nn.ModuleList(map(_rows, repeat(conv), self.first_rows, self.heights))

    def forward(self, x: Tensor) -> Tensor:
        """Pad once, and give each part the rows it reads."""
        padded, shown = functional.pad(x, self.padding), sizes(x)[2]
        seen = [
            padded[:, :, first : first + shown + height - 1]
            for first, height in zip(self.first_rows, self.heights, strict=True)
        ]
        out: Tensor = self.parts[0](seen[0])
        for part, rows in zip(self.parts[1:], seen[1:], strict=True):
            out = out + part(rows)
        return out


def split_large_depthwise_kernels(model: nn.Module) -> None:
    """Replace every depthwise convolution of more than `MAX_TAPS` taps that keeps the size of its input, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if not isinstance(child, nn.Conv2d) or child.groups != child.in_channels:
                continue
            if child.weight[0].numel() > MAX_TAPS and _keeps_size(child):
                setattr(parent, name, RowSplitConv(child))


def _keeps_size(conv: nn.Conv2d) -> bool:
    """Tell whether a convolution has stride 1 and is padded with zeros to the size of its input."""
    rows, columns = conv.kernel_size
    plain = conv.stride == conv.dilation == (1, 1) and conv.out_channels == conv.in_channels
    return (
        plain
        and conv.padding_mode == "zeros"
        and rows % 2 == columns % 2 == 1
        and (conv.padding == (rows // 2, columns // 2))
    )


def _rows(conv: nn.Conv2d, first: int, count: int) -> nn.Conv2d:
    """Return the rows `first` to `first + count` of a kernel; the first part carries the bias."""
    channels, columns = conv.in_channels, conv.kernel_size[1]
    part = nn.Conv2d(channels, channels, (count, columns), groups=channels, bias=first == 0 and conv.bias is not None)
    with torch.no_grad():
        part.weight.copy_(conv.weight[:, :, first : first + count])
        if part.bias is not None and conv.bias is not None:
            part.bias.copy_(conv.bias)
    return part
