"""Fold GroupNorm's scale and shift into the 1x1 convolutions that read its output.

W (gamma * n + beta) + b = (W * gamma) n + (b + W beta): the normalization is left without parameters. The average
pooling before the global keys and values commutes with a per-channel scale and shift. The stem's normalization feeds
the residual stream as well, so its scale and shift stay, as a depthwise 1x1 convolution: one pass over the memory, in
the layout of the convolutions around it.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from cloformer_deploy.networks.cloformer.body import CloBlock, CloFormerBody, ConvFFN
from cloformer_deploy.networks.cloformer.lowering.head import affine_readers


def fold_group_norm_affine(model: nn.Module) -> None:
    """Fold every GroupNorm's scale and shift but the stem's, in place; of a network that is no CloFormer, its blocks'.

    Each GroupNorm becomes one without parameters; the convolutions that read its output get a bias if they had none.
    """
    for block in [module for module in model.modules() if isinstance(module, CloBlock)]:
        attention = block.attn
        projections = [cast(nn.Conv2d, conv) for conv in attention.qkvs]
        if attention.global_heads:
            projections += [attention.global_q, attention.global_kv]
        block.norm1 = _folded(cast(nn.GroupNorm, block.norm1), projections)
        block.norm2 = _folded(cast(nn.GroupNorm, block.norm2), [cast(ConvFFN, block.mlp).fc1])
    if not isinstance(model, CloFormerBody):
        return
    for name, readers in affine_readers(model):
        setattr(model, name, _folded(cast(nn.GroupNorm, model.get_submodule(name)), readers))
    stem = cast(nn.GroupNorm, model.patch_embed.layernorm)
    model.patch_embed.layernorm = without_affine(stem)


def without_affine(norm: nn.GroupNorm) -> nn.Sequential:
    """Return a GroupNorm as one without scale and shift, and a depthwise 1x1 convolution behind it that has them."""
    return nn.Sequential(_without_affine(norm), _scale_and_shift(norm))


def _folded(norm: nn.GroupNorm, readers: Sequence[nn.Conv2d | nn.Linear]) -> nn.GroupNorm:
    with torch.no_grad():
        for reader in readers:
            matrix = reader.weight.flatten(1)
            bias = matrix @ norm.bias
            reader.bias = nn.Parameter(bias if reader.bias is None else reader.bias + bias)
            reader.weight.copy_((matrix * norm.weight).reshape(reader.weight.shape))
    return _without_affine(norm)


def _without_affine(norm: nn.GroupNorm) -> nn.GroupNorm:
    return nn.GroupNorm(norm.num_groups, norm.num_channels, norm.eps, affine=False)


def _scale_and_shift(norm: nn.GroupNorm) -> nn.Conv2d:
    conv = nn.Conv2d(norm.num_channels, norm.num_channels, 1, groups=norm.num_channels)
    with torch.no_grad():
        conv.weight.copy_(norm.weight.reshape(conv.weight.shape))
        cast(nn.Parameter, conv.bias).copy_(norm.bias)
    return conv
