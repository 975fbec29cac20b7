"""GroupNorm(1, C) with its means taken in two steps: over (H, W) first, then over C.

One mean over (C, H, W) sums 100,352 terms in the first stage: float16 sums overflow, float32 ones lose digits, and
Ethos-U and Hexagon have no such operator. In two steps the longest sum has H * W terms (3,136 at 224 x 224).
ONNX Runtime keeps GroupNorm, which ONNX writes as one InstanceNormalization: fewer, faster operators there.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from cloformer_deploy.lowering.shapes import sizes

Form = Literal["reciprocal_root", "float16", "division"]
"""The division by the deviation: as a product with its reciprocal; the same with an eps that float16 can
represent; or as a division. In the simulator of Hexagon the 8-bit reciprocal of 0.392 is 1.211, its division is
right (onnxruntime issue 25035)."""
LONGEST_SUM = 4096
"""Most terms in one mean over (H, W); above it rows are averaged first, then columns."""
NORMAL_IN_FLOAT16 = 1e-4
"""Slightly above float16's smallest normal number, 6.1e-5: the Neural Engine takes a smaller eps for zero."""


def spatial_mean(x: Tensor, longest_sum: int = LONGEST_SUM) -> Tensor:
    """Return the mean of each channel, (B, C, H, W) to (B, C, 1, 1), of at most `longest_sum` terms in one step."""
    if math.prod(sizes(x)[2:]) > longest_sum:
        return x.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)
    return x.mean(dim=(2, 3), keepdim=True)


class TwoStepNorm(nn.Module):
    """GroupNorm(1, C) without scale and shift; (B, C, H, W) to the same shape.

    Args:
        eps: is added to the variance.
        form: how it divides; float16 costs one more multiplication of a scalar per sample.
        longest_sum: most terms in one mean over (H, W).
    """

    def __init__(self, eps: float, form: Form = "reciprocal_root", longest_sum: int = LONGEST_SUM) -> None:
        super().__init__()
        self.eps = eps
        self.form = form
        self.longest_sum = longest_sum

    def forward(self, x: Tensor) -> Tensor:
        """Subtract each sample's mean, divide by its deviation."""
        centered = x - self._mean(x)
        return self.divided(centered, centered)

    def divided(self, values: Tensor, centered: Tensor) -> Tensor:
        """Divide values by the deviation of each sample of a tensor (B, C, H, W) whose mean is 0."""
        variance = self._mean(centered * centered)
        if self.form == "division":
            return values / torch.sqrt(variance + self.eps)
        if self.form == "reciprocal_root":
            return values * torch.rsqrt(variance + self.eps)
        # Exact: a power of 4.
        scale = 4.0 ** math.ceil(math.log(NORMAL_IN_FLOAT16 / self.eps, 4))
        return values * (torch.rsqrt(variance * scale + self.eps * scale) * math.sqrt(scale))

    def _mean(self, x: Tensor) -> Tensor:
        """Return the mean of each sample, (B, C, H, W) to (B, 1, 1, 1)."""
        return spatial_mean(x, self.longest_sum).mean(dim=1, keepdim=True)


class PooledNorm(TwoStepNorm):
    """Global average of the output of `TwoStepNorm`, without computing that output; (B, C, H, W) to (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """Average, then subtract and divide."""
        average = spatial_mean(x, self.longest_sum)
        mean = average.mean(dim=1, keepdim=True)
        return self.divided(average - mean, x - mean)


def replace_group_norms(model: nn.Module, form: Form, longest_sum: int = LONGEST_SUM) -> None:
    """Replace every GroupNorm(1, C) by a `TwoStepNorm` with these arguments, in place.

    Raises:
        ValueError: one has a scale and shift, or more than one group.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.GroupNorm):
                if child.affine or child.num_groups != 1:
                    raise ValueError(f"{child} cannot be replaced: it has parameters, or more than one group")
                setattr(parent, name, TwoStepNorm(child.eps, form, longest_sum))
