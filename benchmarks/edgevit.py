"""EdgeViT-XXS, written from its paper (Pan et al., "EdgeViTs", arXiv 2205.03436): it is in no package.

The paper gives 4.1 M parameters, 0.6 GMAC at 224 x 224 px, and 74.4 % top-1 on ImageNet-1k.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS, DEPTHS, SAMPLED = (36, 72, 144, 288), (1, 1, 3, 2), (4, 2, 2, 1)
"""Channels, blocks, and the distance between the positions that attend to one another, for each of the four stages."""
HEAD_CHANNELS = 36
EXPANSION = 4


class PerPixel(nn.Module):
    """A layer normalization over the channels of maps (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return normalized maps of the same shape."""
        normalized: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return normalized


class SparseAttention(nn.Module):
    """Global attention among every n-th position, spread to its neighbors by a transposed depthwise convolution."""

    def __init__(self, channels: int, sampled: int) -> None:
        super().__init__()
        self.heads, self.sampled = channels // HEAD_CHANNELS, sampled
        self.qkv = nn.Linear(channels, 3 * channels)
        self.spread: nn.Module = nn.Identity()
        if sampled > 1:
            transposed = nn.ConvTranspose2d(channels, channels, sampled, sampled, groups=channels)
            self.spread = nn.Sequential(transposed, PerPixel(channels))
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H, W) of the same shape."""
        x = functional.avg_pool2d(x, 1, self.sampled)
        batch, channels, height, width = x.shape
        qkv = self.qkv(x.flatten(2).transpose(1, 2)).reshape(batch, height * width, 3, self.heads, HEAD_CHANNELS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attention = (q @ k.transpose(-2, -1) * HEAD_CHANNELS**-0.5).softmax(-1)
        gathered = (attention @ v).transpose(2, 3).reshape(batch, channels, height, width)
        projected: Tensor = self.project(self.spread(gathered))
        return projected


class Residual(nn.Module):
    """A position encoding, then two residual branches: one that mixes positions, and an MLP."""

    def __init__(self, channels: int, mixer: nn.Module, norm: type[nn.Module]) -> None:
        super().__init__()
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.mixer = nn.Sequential(norm(channels), mixer)
        hidden = EXPANSION * channels
        mlp = (nn.Conv2d(channels, hidden, 1), nn.GELU(), nn.Conv2d(hidden, channels, 1))
        self.mlp = nn.Sequential(norm(channels), *mlp)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H, W) of the same shape."""
        x = x + self.position(x)
        x = x + self.mixer(x)
        mixed: Tensor = x + self.mlp(x)
        return mixed


def _local(channels: int) -> nn.Module:
    mixer = (
        nn.Conv2d(channels, channels, 1),
        nn.Conv2d(channels, channels, 5, padding=2, groups=channels),
        nn.Conv2d(channels, channels, 1),
    )
    return Residual(channels, nn.Sequential(*mixer), nn.BatchNorm2d)


def _stage(before: int, channels: int, depth: int, sampled: int, stride: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(before, channels, stride, stride), PerPixel(channels)]
    for _ in range(depth):
        layers += [_local(channels)] if sampled > 1 else []
        layers.append(Residual(channels, SparseAttention(channels, sampled), PerPixel))
    return layers


def edgevit_xxs(num_classes: int) -> nn.Module:
    """Return the classifier: images (B, 3, H, W), sides multiples of 32, to logits (B, num_classes)."""
    layers: list[nn.Module] = []
    for index, (channels, depth, sampled) in enumerate(zip(CHANNELS, DEPTHS, SAMPLED, strict=True)):
        before, stride = (CHANNELS[index - 1], 2) if index else (3, 4)
        layers += _stage(before, channels, depth, sampled, stride)
    head = (nn.BatchNorm2d(CHANNELS[-1]), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], num_classes))
    return nn.Sequential(*layers, *head)


def parameters(model: nn.Module) -> int:
    """Return the number of trained numbers."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_accumulates(model: nn.Module, side: int) -> int:
    """Return those of one square image in convolutions, linear layers and products of matrices."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, side, side))
    return int(counter.get_total_flops()) // 2
