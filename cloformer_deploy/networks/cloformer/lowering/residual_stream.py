"""Scale the residual stream to an eighth, so that sums of its squares fit float16.

The normalizations square the stream and sum the squares: trained weights come within a tenth of float16's largest
number, 65504. A GroupNorm gives the same output for x and for x / 8 if its eps is divided by 64, so it is enough to
divide everything that is added to the stream. The factor is a power of two, so the rewrite is exact.
"""

from typing import cast

import torch
from torch import Tensor, nn

from cloformer_deploy.networks.cloformer.body import CloFormerBody, ConvFFN
from cloformer_deploy.networks.cloformer.lowering.head import restore_stream, stream_norms

SHRINK = 8


def shrink_residual_stream(model: CloFormerBody) -> None:
    """Divide what is added to the residual stream, in place; BatchNorm and GroupNorm's affine are folded already."""
    stem = cast(nn.Sequential, model.patch_embed.layernorm)
    added = [cast(nn.Conv2d, stem[1])]
    norms: list[nn.Module] = [*stream_norms(model)]
    for block in model.blocks:
        added += [block.attn.proj, cast(ConvFFN, block.mlp).fc2]
        norms += [block.norm1, block.norm2]
        # Its input is an eighth already, so only its biases are divided.
        for conv in block.downsample.modules():
            if isinstance(conv, nn.Conv2d):
                _shrink(conv.bias)
    for conv in added:
        _shrink(conv.weight)
        _shrink(conv.bias)
    for norm in norms:
        cast(nn.GroupNorm, norm).eps /= SHRINK**2
    restore_stream(model, SHRINK)


def _shrink(parameter: Tensor | None) -> None:
    if parameter is not None:
        with torch.no_grad():
            parameter.div_(SHRINK)
