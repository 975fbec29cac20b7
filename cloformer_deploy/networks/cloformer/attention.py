"""Clo attention: local AttnConv branches beside one global branch (arXiv 2303.17803)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cloformer_deploy.lowering.shapes import sizes


class AttnMap(nn.Module):
    """The context-aware gate of AttnConv before its tanh: 1x1 conv, SiLU, 1x1 conv."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act_block = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        out: Tensor = self.act_block(x)
        return out


class GlobalAttention(nn.Module):
    """Attention of every pixel to a pooled map, head by head. Without parameters: a lowering can put another form here.

    Args:
        heads: the channels of q, k and v are divided among them.
        dropout: on the softmax, in training.
    """

    def __init__(self, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.drop = nn.Dropout(dropout)

    def forward(self, q: Tensor, kv: Tensor) -> Tensor:
        """Map scaled queries (B, C, H, W), and keys and then values (B, 2 C, h, w), to (B, C, H, W).

        Heads are a separate axis of 4-D tensors throughout: a fifth dimension costs a converter's
        correctness (litert-torch) and the Neural Engine.
        """
        shape = sizes(q)
        batch, channels = shape[:2]
        queries = q.reshape(batch, self.heads, channels // self.heads, -1)
        keys, values = kv.reshape(batch, 2 * self.heads, channels // self.heads, -1).chunk(2, dim=1)
        weights = self.drop((queries.transpose(2, 3) @ keys).softmax(dim=-1))
        attended: Tensor = (weights @ values.transpose(2, 3)).transpose(2, 3)
        return attended.reshape(shape)


class CloAttention(nn.Module):
    """Attention with shared and context-aware local weights, and global attention on pooled keys.

    The heads are divided by `group_split`: one local group for each entry of `kernel_sizes`, then
    the global group. A group of 0 heads is left out. Works on its own as a plug-in layer: it takes the arguments and
    the weights of the published one, and every converter takes it as it is.

    Args:
        dim: input and output channels; a multiple of `num_heads`.
        num_heads: heads in all groups together.
        group_split: heads of each local group, then of the global group; sums to `num_heads`.
        kernel_sizes: the side of each local group's depthwise kernel; one entry fewer than `group_split`.
        window_size: side of the average pooling before the global keys and values; 1 pools nothing.
        attn_drop: dropout on the gates and on the softmax, in training.
        proj_drop: dropout on the output, in training.
        qkv_bias: the convolutions that compute q, k and v, and the projection, have a bias. Copies of the layer differ
            in the projection: it has a bias wherever the weights that are loaded have one.

    Raises:
        ValueError: the arguments contradict one another.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        group_split: Sequence[int] = (4, 4),
        kernel_sizes: Sequence[int] = (5,),
        window_size: int = 4,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        if sum(group_split) != num_heads:
            raise ValueError(f"group_split {list(group_split)} must sum to num_heads {num_heads}")
        if len(kernel_sizes) + 1 != len(group_split):
            raise ValueError(
                f"kernel_sizes {list(kernel_sizes)} must have one entry fewer than group_split {list(group_split)}"
            )
        if window_size < 1 or min(group_split) < 0 or any(kernel % 2 == 0 for kernel in kernel_sizes):
            raise ValueError(
                f"window_size {window_size} must be positive, group_split {list(group_split)} not negative, "
                f"kernel_sizes {list(kernel_sizes)} odd"
            )
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.dim_head = dim // num_heads
        self.scale = self.dim_head**-0.5
        self.window_size = window_size
        self.global_heads = group_split[-1]
        self.local_dims = [heads * self.dim_head for heads in group_split[:-1] if heads]
        kernels = [kernel for kernel, heads in zip(kernel_sizes, group_split[:-1], strict=True) if heads]

        # Registered in the order of the published state dicts.
        if self.global_heads:
            global_dim = self.global_heads * self.dim_head
            self.global_q = nn.Conv2d(dim, global_dim, 1, bias=qkv_bias)
            self.global_kv = nn.Conv2d(dim, 2 * global_dim, 1, bias=qkv_bias)
            self.avgpool = nn.AvgPool2d(window_size) if window_size > 1 else nn.Identity()
            self.global_attention: nn.Module = GlobalAttention(self.global_heads, attn_drop)
        self.convs = nn.ModuleList(
            nn.Conv2d(3 * m, 3 * m, kernel, padding=kernel // 2, groups=3 * m)
            for m, kernel in zip(self.local_dims, kernels, strict=True)
        )
        self.act_blocks = nn.ModuleList(AttnMap(m) for m in self.local_dims)
        self.qkvs = nn.ModuleList(nn.Conv2d(dim, 3 * m, 1, bias=qkv_bias) for m in self.local_dims)
        self.proj = nn.Conv2d(dim, dim, 1, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(proj_drop)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Load what `load_state_dict` gives, after giving the projection a bias where the weights have one."""
        if self.proj.bias is None and f"{prefix}proj.bias" in state_dict:
            self.proj.bias = nn.Parameter(self.proj.weight.new_zeros(self.proj.out_channels))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def local_branch(self, x: Tensor, index: int) -> Tensor:
        """Compute AttnConv of local group `index`: (B, dim, H, W) to (B, m, H, W)."""
        qkv = self.convs[index](self.qkvs[index](x))
        q, k, v = qkv.chunk(3, dim=1)
        gate = torch.tanh(self._scaled(self.act_blocks[index](q * k)))
        out: Tensor = self.attn_drop(gate) * v
        return out

    def global_branch(self, x: Tensor) -> Tensor:
        """Attend from every pixel to the pooled map: (B, dim, H, W) to (B, global heads * dim_head, H, W)."""
        q = self._scaled(self.global_q(x))
        out: Tensor = self.global_attention(q, self.global_kv(self.avgpool(x)))
        return out

    def _scaled(self, x: Tensor) -> Tensor:
        # A folded scale is 1, and exporters would keep the product with it.
        return x if self.scale == 1 else x * self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to (B, dim, H, W).

        Raises:
            ValueError: H or W is not a multiple of `window_size`.
        """
        height, width = sizes(x)[-2:]
        if self.global_heads and (height % self.window_size or width % self.window_size):
            raise ValueError(f"height {height} and width {width} must be multiples of window_size {self.window_size}")
        branches = [self.local_branch(x, index) for index in range(len(self.local_dims))]
        if self.global_heads:
            branches.append(self.global_branch(x))
        out: Tensor = self.proj_drop(self.proj(torch.cat(branches, dim=1)))
        return out
