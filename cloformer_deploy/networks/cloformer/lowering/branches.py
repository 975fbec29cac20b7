"""Split Clo attention into branches, without a split or a concatenation of channels.

q, k and v of a local branch come from convolutions of their own, and each branch has its own part of the output
projection, added to the residual stream. ONNX Runtime computes convolutions in a blocked layout of 16 channels that
survives products, sums and tanh, but neither a split nor a concatenation that is not of whole blocks; and it adds a
convolution's output to another tensor as part of the convolution.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from cloformer_deploy.lowering.convolutions import by_input_channels, by_output_channels
from cloformer_deploy.networks.cloformer.attention import CloAttention
from cloformer_deploy.networks.cloformer.body import CloBlock


class LocalBranch(nn.Module):
    """One local group of a `CloAttention`, projected; (B, dim, H, W) to the same shape."""

    def __init__(self, attention: CloAttention, index: int, proj: nn.Conv2d) -> None:
        super().__init__()
        thirds = [attention.local_dims[index]] * 3
        self.q, self.k, self.v = (
            nn.Sequential(*pair)
            for pair in zip(
                by_output_channels(cast(nn.Conv2d, attention.qkvs[index]), thirds),
                by_output_channels(cast(nn.Conv2d, attention.convs[index]), thirds),
                strict=True,
            )
        )
        self.gate = attention.act_blocks[index]
        self.proj = proj

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated values, projected."""
        out: Tensor = self.proj(torch.tanh(self.gate(self.q(x) * self.k(x))) * self.v(x))
        return out


class GlobalBranch(nn.Module):
    """The global group of a `CloAttention`, projected; (B, dim, H, W) to the same shape."""

    def __init__(self, attention: CloAttention, proj: nn.Conv2d) -> None:
        super().__init__()
        self.q, self.kv = attention.global_q, attention.global_kv
        self.avgpool = attention.avgpool
        self.attention = attention.global_attention
        self.proj = proj

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended values, projected."""
        out: Tensor = self.proj(self.attention(self.q(x), self.kv(self.avgpool(x))))
        return out


class BranchSumBlock(CloBlock):
    """A `CloBlock` whose attention is a sum of branches, added one by one to the residual stream."""

    def __init__(self, block: CloBlock) -> None:
        nn.Module.__init__(self)  # the parts are taken from `block`, not made anew
        self.norm1, self.norm2, self.mlp, self.downsample = block.norm1, block.norm2, block.mlp, block.downsample
        self.branches = nn.ModuleList(_branches(block.attn))

    def attend(self, x: Tensor) -> Tensor:
        """See `CloBlock.attend`."""
        normalized = self.norm1(x)
        for branch in self.branches:
            x = x + branch(normalized)
        return x


class BranchSum(nn.Module):
    """A `CloAttention` outside a `CloBlock` as a sum of branches; (B, dim, H, W) to the same shape."""

    def __init__(self, attention: CloAttention) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branches(attention))

    def forward(self, x: Tensor) -> Tensor:
        """Sum the branches."""
        out: Tensor = self.branches[0](x)
        for branch in self.branches[1:]:
            out = out + branch(x)
        return out


def separate_branches(model: nn.Module) -> None:
    """Replace every `CloBlock`, and every `CloAttention` outside one, in place; scales must be folded already."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, CloBlock):
                setattr(parent, name, BranchSumBlock(child))
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, CloAttention):
                setattr(parent, name, BranchSum(child))


def _branches(attention: CloAttention) -> Iterator[nn.Module]:
    if attention.scale != 1:
        raise ValueError(f"the scale {attention.scale} must be folded into the weights first")
    sizes = list(attention.local_dims)
    if attention.global_heads:
        sizes.append(attention.global_q.out_channels)
    projections = by_input_channels(attention.proj, sizes)
    for index in range(len(attention.local_dims)):
        yield LocalBranch(attention, index, projections[index])
    if attention.global_heads:
        yield GlobalBranch(attention, projections[-1])
