"""Layers of the light heads for dense tasks. All tensors are NCHW."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

WIDTH = 64
"""Channels of every map inside a head."""


class Upsample(nn.Module):
    """Bilinear upsampling by two without aligned corners, (B, C, H, W) to (B, C, 2 H, 2 W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Interpolate between pixel centers."""
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def lateral(channels: int) -> nn.Sequential:
    """Return a 1x1 convolution to `WIDTH` channels with BatchNorm."""
    return nn.Sequential(nn.Conv2d(channels, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH))


def separable(side: int) -> nn.Sequential:
    """Return a depthwise and a 1x1 convolution, each with BatchNorm and ReLU; `WIDTH` channels in and out.

    Args:
        side: of the depthwise kernel, odd.
    """
    return nn.Sequential(
        nn.Conv2d(WIDTH, WIDTH, side, padding=side // 2, groups=WIDTH, bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
        nn.Conv2d(WIDTH, WIDTH, 1, bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
    )


class TopDown(nn.Module):
    """A head that begins with the path of a feature pyramid from its coarsest map to its finest (arXiv 1612.03144).

    Args:
        channels: of each map of the pyramid, finest first; each map has half the size of the one before.
        side: of the depthwise kernels.

    Attributes:
        laterals: for each map, finest first.
        smoothing: of the path at each map, finest first.
        upsampling: from each map but the finest to the next finer one, finest first.
    """

    def __init__(self, channels: Sequence[int], side: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(lateral(width) for width in channels)
        self.smoothing = nn.ModuleList(separable(side) for _ in channels)
        self.upsampling = nn.ModuleList(Upsample() for _ in pairwise(channels))

    def top_down(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Return the path at each map, finest first: (B, WIDTH, H_i, W_i) for maps (B, C_i, H_i, W_i)."""
        levels = [layer(feature) for layer, feature in zip(self.laterals, pyramid, strict=True)]
        path = [self.smoothing[-1](levels[-1])]
        for level in reversed(range(len(levels) - 1)):
            path.insert(0, self.smoothing[level](levels[level] + self.upsampling[level](path[0])))
        return path

    def scale_inputs(self, factor: float) -> None:
        """Multiply what the laterals read, in place; their BatchNorm is folded already."""
        for layer in self.laterals:
            cast(nn.Conv2d, cast(nn.Sequential, layer)[0]).weight.data.mul_(factor)
