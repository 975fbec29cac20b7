"""Clo attention as people have it in their own files: other classes, other forms of SiLU, the published names of parts.

Written anew after the description of the published block; beside it look-alikes, which are none.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class _SwishFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return grads[0] * (gate * (1 + x * (1 - gate)))


class FunctionSwish(nn.Module):
    """SiLU as an autograd function of somebody's own, which saves memory in training; converters do not know it."""

    def forward(self, x: Tensor) -> Tensor:
        return _SwishFunction.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class ProductSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(x.sigmoid())


SWISHES: tuple[Callable[[], nn.Module], ...] = (nn.SiLU, FunctionSwish, ProductSwish)


class Gate(nn.Module):
    def __init__(self, dim: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.act_block = nn.Sequential(nn.Conv2d(dim, dim, 1), act(), nn.Conv2d(dim, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act_block(x)
        return out


class PluginAttention(nn.Module):
    """The block with five-dimensional tensors and `b, c, h, w = x.size()`, as in the published code and its copies."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        group_split: Sequence[int],
        kernel_sizes: Sequence[int],
        window_size: int = 4,
        qkv_bias: bool = True,
        act: Callable[[], nn.Module] = FunctionSwish,
        proj_bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        self.scalor = self.head_dim**-0.5
        self.group_split = list(group_split)
        self.window_size = window_size
        local = [(heads * self.head_dim, k) for heads, k in zip(group_split, kernel_sizes, strict=False) if heads]
        self.convs = nn.ModuleList(nn.Conv2d(3 * m, 3 * m, k, 1, k // 2, groups=3 * m) for m, k in local)
        self.act_blocks = nn.ModuleList(Gate(m, act) for m, _ in local)
        self.qkvs = nn.ModuleList(nn.Conv2d(dim, 3 * m, 1, bias=qkv_bias) for m, _ in local)
        if group_split[-1]:
            width = group_split[-1] * self.head_dim
            self.global_q = nn.Conv2d(dim, width, 1, bias=qkv_bias)
            self.global_kv = nn.Conv2d(dim, 2 * width, 1, bias=qkv_bias)
            self.avgpool = nn.AvgPool2d(window_size, window_size) if window_size != 1 else nn.Identity()
        self.proj = nn.Conv2d(dim, dim, 1, bias=qkv_bias if proj_bias is None else proj_bias)
        self.attn_drop, self.proj_drop = nn.Dropout(0.1), nn.Dropout(0.1)

    def _local(self, x: Tensor, index: int) -> Tensor:
        b, _, h, w = x.size()
        qkv = self.convs[index](self.qkvs[index](x)).reshape(b, 3, -1, h, w).transpose(0, 1).contiguous()
        q, k, v = qkv
        gate = self.attn_drop(torch.tanh(self.act_blocks[index](q.mul(k)).mul(self.scalor)))
        return gate.mul(v)  # type: ignore[no-any-return]

    def _global(self, x: Tensor) -> Tensor:
        b, _, h, w = x.size()
        q = self.global_q(x).reshape(b, -1, self.head_dim, h * w).transpose(-1, -2).contiguous()
        pooled = self.global_kv(self.avgpool(x))
        keys = (h * w) // self.window_size**2
        k, v = pooled.view(b, 2, -1, self.head_dim, keys).permute(1, 0, 2, 4, 3).contiguous()
        weights = self.attn_drop((self.scalor * q @ k.transpose(-1, -2)).softmax(dim=-1))
        return (weights @ v).transpose(2, 3).reshape(b, -1, h, w).contiguous()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        parts = [self._local(x, index) for index in range(len(self.convs))]
        if self.group_split[-1]:
            parts.append(self._global(x))
        out: Tensor = self.proj_drop(self.proj(torch.cat(parts, dim=1)))
        return out


class WithoutTanh(PluginAttention):
    """A look-alike: the same weights, another gate."""

    def _local(self, x: Tensor, index: int) -> Tensor:
        q, k, v = self.convs[index](self.qkvs[index](x)).chunk(3, dim=1)
        return self.act_blocks[index](q * k) * self.scalor * v  # type: ignore[no-any-return]


class WithMixing(PluginAttention):
    """A look-alike: one more layer between the groups and the projection."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.mix = nn.Conv2d(self.proj.in_channels, self.proj.in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.mix(x))


class OneDimensional(nn.Module):
    """A look-alike for sequences."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkvs = nn.ModuleList([nn.Conv1d(dim, 3 * dim, 1)])
        self.convs = nn.ModuleList([nn.Conv1d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim)])
        self.act_blocks = nn.ModuleList([nn.Identity()])
        self.proj = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        q, k, v = self.convs[0](self.qkvs[0](flat)).chunk(3, dim=1)
        out: Tensor = self.proj(torch.tanh(q * k) * v)
        return out.reshape(x.shape)


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.empty(len(x), 1, 1, 1).bernoulli_(0.9) if self.training else x


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.act = nn.GELU()
        self.dwconv = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, out, 1)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.fc2(self.drop(self.dwconv(self.act(self.fc1(x))))))
        return out


class PluginBlock(nn.Module):
    """The published block of attention and feed-forward network."""

    def __init__(self, dim: int, out: int, stride: int, act: Callable[[], nn.Module] = FunctionSwish) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, dim), nn.GroupNorm(1, dim)
        self.attn = PluginAttention(dim, 4, (3, 1), (5,), 4, act=act)
        self.drop_path = DropPath()
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(dim, dim, 5, stride, 2), nn.BatchNorm2d(dim), nn.Conv2d(dim, out, 1)
            )
        self.mlp = FeedForward(dim, 4 * dim, out, 5, stride)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        out: Tensor = self.downsample(x) + self.drop_path(self.mlp(self.norm2(x)))
        return out
