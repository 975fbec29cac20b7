"""The residual stream at an eighth of its size, which costs nothing and changes nothing but what float16 can hold.

The normalizations square the stream and sum the squares: trained weights come within a tenth of float16's largest
number, 65504. A GroupNorm gives the same for x and for x / 8 if its eps is divided by 64, so it is enough that all that
is added to the stream is an eighth. Exact: a power of two.
"""

from typing import cast

import torch
from torch import Tensor, nn

from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.networks.cloformer.cloformer import ConvFFN

SHRINK = 8


def shrink_residual_stream(model: CloFormer) -> None:
    """Divide what is added to the residual stream, in place; BatchNorm and GroupNorm's affine are folded already."""
    stem = cast(nn.Sequential, model.patch_embed.layernorm)
    added = [cast(nn.Conv2d, stem[1])]
    norms = [model.norm]
    for block in model.blocks:
        added += [block.attn.proj, cast(ConvFFN, block.mlp).fc2]
        norms += [block.norm1, block.norm2]
        # Takes the stream as it is, an eighth already, and adds its biases to it.
        for conv in block.downsample.modules():
            if isinstance(conv, nn.Conv2d):
                _shrink(conv.bias)
    for conv in added:
        _shrink(conv.weight)
        _shrink(conv.bias)
    for norm in norms:
        cast(nn.GroupNorm, norm).eps /= SHRINK**2


def _shrink(parameter: Tensor | None) -> None:
    if parameter is not None:
        with torch.no_grad():
            parameter.div_(SHRINK)
