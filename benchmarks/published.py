"""The published form of Clo attention, as the authors' repository computes it: five axes, one stack of q, k and v.

`cloformer_deploy.networks.cloformer` keeps to four, which is the first of the rewrites that lowering is made of.
"""

import types

import torch
from torch import Tensor

from cloformer_deploy.networks.cloformer import CloAttention, CloFormer


def published_form(model: CloFormer) -> CloFormer:
    """Make a model compute its attention as published, in place; the parameters are the same."""
    for module in model.modules():
        if isinstance(module, CloAttention):
            for name, method in (("local_branch", _local_branch), ("global_branch", _global_branch)):
                setattr(module, name, types.MethodType(method, module))
    return model


def _local_branch(attention: CloAttention, x: Tensor, index: int) -> Tensor:
    batch, _, height, width = x.shape
    qkv = attention.convs[index](attention.qkvs[index](x)).reshape(batch, 3, -1, height, width)
    q, k, v = qkv.transpose(0, 1).contiguous()
    gate: Tensor = torch.tanh(attention.act_blocks[index](q * k) * attention.scale)
    gated: Tensor = gate * v
    return gated


def _global_branch(attention: CloAttention, x: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    q = attention.global_q(x).reshape(batch, -1, attention.dim_head, height * width).transpose(-1, -2).contiguous()
    pooled = height * width // attention.window_size**2
    kv = attention.global_kv(attention.avgpool(x)).view(batch, 2, -1, attention.dim_head, pooled)
    k, v = kv.permute(1, 0, 2, 4, 3).contiguous()
    weights = (attention.scale * q @ k.transpose(-1, -2)).softmax(dim=-1)
    attended: Tensor = (weights @ v).transpose(2, 3)
    return attended.reshape(batch, -1, height, width)
