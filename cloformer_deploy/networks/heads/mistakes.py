"""Mistakes that converters make of upsampling, to tell a file that has them."""

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloformer_deploy.networks.heads.layers import Upsample

_Model = TypeVar("_Model", bound=nn.Module)


class CornersAligned(nn.Module):
    """Upsampling by two whose first and last samples are those of the input, (B, C, H, W) to (B, C, 2 H, 2 W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Interpolate between corners."""
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class LeftAligned(nn.Module):
    """Upsampling by two that takes sample i at i / 2, half a pixel too far to the right and down."""

    def forward(self, x: Tensor) -> Tensor:
        """Interpolate along both axes."""
        for axis in (2, 3):
            last = x.narrow(axis, x.shape[axis] - 1, 1)
            after = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), last], dim=axis)
            x = torch.stack([x, (x + after) / 2], dim=axis + 1).flatten(axis, axis + 1)
        return x


def misaligned(model: _Model) -> Iterator[tuple[str, _Model]]:
    """Yield copies of a model whose upsampling has another alignment, each with the mistake in words."""
    if not any(isinstance(module, Upsample) for module in model.modules()):
        return
    for what, wrong in (
        ("upsampling aligns the corners of pixels, not their centers", CornersAligned),
        ("upsampling is half a pixel off: it aligns neither centers nor corners", LeftAligned),
    ):
        changed = copy.deepcopy(model)
        for parent in list(changed.modules()):
            for name, child in parent.named_children():
                if isinstance(child, Upsample):
                    setattr(parent, name, wrong())
        yield what, changed
