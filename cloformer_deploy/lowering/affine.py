"""GroupNorm's scale and shift folded into the 1x1 convolutions that follow it.

W (gamma * n + beta) + b = (W * gamma) n + (b + W beta): the normalization is left without parameters. The average
pooling before the global keys and values commutes with a scale and shift a channel. What the stem normalizes feeds the
residual stream as well, so its scale and shift stay, as a depthwise 1x1 convolution: one pass over the memory, and in
the layout of the convolutions around it.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.networks.cloformer.cloformer import ConvFFN


def fold_group_norm_affine(model: CloFormer) -> None:
    """Fold every GroupNorm's scale and shift but the stem's, in place.

    Each GroupNorm becomes one without parameters; the convolutions that took its output get a bias if they had none.
    """
    for block in model.blocks:
        attention = block.attn
        projections = [cast(nn.Conv2d, conv) for conv in attention.qkvs]
        if attention.global_heads:
            projections += [attention.global_q, attention.global_kv]
        block.norm1 = _folded(cast(nn.GroupNorm, block.norm1), projections)
        block.norm2 = _folded(cast(nn.GroupNorm, block.norm2), [cast(ConvFFN, block.mlp).fc1])
    model.norm = _folded(cast(nn.GroupNorm, model.norm), [model.head])
    stem = cast(nn.GroupNorm, model.patch_embed.layernorm)
    model.patch_embed.layernorm = nn.Sequential(_without_affine(stem), _scale_and_shift(stem))


def _folded(norm: nn.GroupNorm, followers: Sequence[nn.Conv2d | nn.Linear]) -> nn.GroupNorm:
    with torch.no_grad():
        for follower in followers:
            matrix = follower.weight.flatten(1)
            bias = matrix @ norm.bias
            follower.bias = nn.Parameter(bias if follower.bias is None else follower.bias + bias)
            follower.weight.copy_((matrix * norm.weight).reshape(follower.weight.shape))
    return _without_affine(norm)


def _without_affine(norm: nn.GroupNorm) -> nn.GroupNorm:
    return nn.GroupNorm(norm.num_groups, norm.num_channels, norm.eps, affine=False)


def _scale_and_shift(norm: nn.GroupNorm) -> nn.Conv2d:
    conv = nn.Conv2d(norm.num_channels, norm.num_channels, 1, groups=norm.num_channels)
    with torch.no_grad():
        conv.weight.copy_(norm.weight.reshape(conv.weight.shape))
        cast(nn.Parameter, conv.bias).copy_(norm.bias)
    return conv
