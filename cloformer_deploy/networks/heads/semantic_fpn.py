"""A light Semantic FPN: class logits at stride 4 from a feature pyramid.

A. Kirillov, R. Girshick, K. He, P. Dollár, "Panoptic Feature Pyramid Networks", arXiv 1901.02446, with depthwise
separable convolutions, BatchNorm, and one path from the coarsest map to the finest, which adds the lateral of each map
on its way.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

WIDTH = 64
"""Channels of every map inside the head."""


class Upsample(nn.Module):
    """Bilinear upsampling by two without aligned corners, (B, C, H, W) to (B, C, 2 H, 2 W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Interpolate between pixel centers."""
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def lateral(channels: int) -> nn.Sequential:
    """Return a 1x1 convolution to `WIDTH` channels with BatchNorm."""
    return nn.Sequential(nn.Conv2d(channels, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH))


def separable() -> nn.Sequential:
    """Return a depthwise 3x3 and a 1x1 convolution, each with BatchNorm and ReLU; `WIDTH` channels in and out."""
    return nn.Sequential(
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH, bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
        nn.Conv2d(WIDTH, WIDTH, 1, bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
    )


class SemanticFPN(nn.Module):
    """The head; its logits have the size of the pyramid's finest map.

    Args:
        channels: of each map of the pyramid, finest first; each map has half the size of the one before.
        num_classes: channels of the logits.

    Attributes:
        laterals: for each map, finest first.
        smoothing: of the path at each map, finest first.
        upsampling: from each map but the finest to the next finer one, finest first.
        classify: 1x1 convolution to the logits.
    """

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(lateral(width) for width in channels)
        self.smoothing = nn.ModuleList(separable() for _ in channels)
        self.upsampling = nn.ModuleList(Upsample() for _ in pairwise(channels))
        self.classify = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return logits (B, num_classes, H, W) for maps (B, C_i, H / 2 ** i, W / 2 ** i)."""
        levels = [layer(feature) for layer, feature in zip(self.laterals, pyramid, strict=True)]
        path: Tensor = self.smoothing[-1](levels[-1])
        for level in reversed(range(len(levels) - 1)):
            path = self.smoothing[level](levels[level] + self.upsampling[level](path))
        logits: Tensor = self.classify(path)
        return logits

    def scale_inputs(self, factor: float) -> None:
        """Multiply what the laterals read, in place; their BatchNorm is folded already."""
        for layer in self.laterals:
            cast(nn.Conv2d, cast(nn.Sequential, layer)[0]).weight.data.mul_(factor)
