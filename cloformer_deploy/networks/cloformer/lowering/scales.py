"""Fold the attention's scale, dim_head ** -0.5, into the convolutions whose outputs it multiplies.

These are the gate's last 1x1 conv in every local branch and the global query; no multiplication is left in the graph.
"""

import torch
from torch import nn

from cloformer_deploy.networks.cloformer.attention import CloAttention


def fold_scales(model: nn.Module) -> None:
    """Fold the scale of every `CloAttention`, in place."""
    for module in model.modules():
        if not isinstance(module, CloAttention):
            continue
        scaled = [block.get_submodule("act_block.2") for block in module.act_blocks]
        if module.global_heads:
            scaled.append(module.global_q)
        with torch.no_grad():
            for conv in scaled:
                for parameter in conv.parameters():
                    parameter.mul_(module.scale)
        module.scale = 1.0
