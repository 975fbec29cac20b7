"""The body of CloFormer in PyTorch: stem and stages, transcribed from arXiv 2303.17803. All tensors are NCHW."""

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn

from cloformer_deploy.networks.base import INPUT_MULTIPLE
from cloformer_deploy.networks.cloformer.architecture import Architecture
from cloformer_deploy.networks.cloformer.attention import CloAttention


def group_norm(channels: int) -> nn.GroupNorm:
    """Return the only normalization inside blocks: statistics over (C, H, W) together, per sample, eps 1e-5."""
    return nn.GroupNorm(1, channels)


class ConvBNReLU(nn.Module):
    """3x3 conv, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        out: Tensor = self.conv(x)
        return out


class PatchEmbed(nn.Module):
    """The stem: four 3x3 convs with strides 2, 2, 1, 1, a 1x1 conv and a normalization; stride 4 in all."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvBNReLU(in_chans, dim // 2, 2)
        self.conv2 = ConvBNReLU(dim // 2, dim, 2)
        self.conv3 = ConvBNReLU(dim, dim, 1)
        self.conv4 = ConvBNReLU(dim, dim, 1)
        self.conv5 = nn.Conv2d(dim, dim, 1)
        self.layernorm: nn.Module = group_norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_chans, H, W) to (B, dim, H / 4, W / 4)."""
        x = self.conv4(self.conv3(self.conv2(self.conv1(x))))
        out: Tensor = self.layernorm(self.conv5(x))
        return out


class ConvFFN(nn.Module):
    """1x1 conv, exact GELU, depthwise conv (which carries the stride), 1x1 conv."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(in_channels, hidden, 1)
        self.act = nn.GELU()
        self.dwconv = nn.Conv2d(hidden, hidden, kernel_size, stride, kernel_size // 2, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        out: Tensor = self.fc2(self.dwconv(self.act(self.fc1(x))))
        return out


class CloBlock(nn.Module):
    """Clo attention, then ConvFFN, each on the residual stream.

    The last block of stages 1-3 down-samples: its ConvFFN has stride 2 and widens to `out_dim`, and a
    dense strided conv, BatchNorm and 1x1 conv take the place of the identity skip.
    """

    def __init__(self, architecture: Architecture, stage: int, out_dim: int, stride: int) -> None:
        super().__init__()
        dim, kernel = architecture.embed_dims[stage], architecture.mlp_kernel_sizes[stage]
        self.norm1: nn.Module = group_norm(dim)
        self.attn = CloAttention(
            dim,
            architecture.num_heads[stage],
            architecture.group_splits[stage],
            architecture.kernel_sizes[stage],
            architecture.window_sizes[stage],
            qkv_bias=architecture.qkv_bias,
        )
        self.norm2: nn.Module = group_norm(dim)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(dim, dim, kernel, stride, kernel // 2),
                nn.BatchNorm2d(dim),
                nn.Conv2d(dim, out_dim, 1),
            )
        self.mlp: nn.Module = ConvFFN(dim, architecture.hidden(stage), out_dim, kernel, stride)

    @classmethod
    def of(
        cls, norm1: nn.Module, norm2: nn.Module, attn: CloAttention, mlp: nn.Module, downsample: nn.Module
    ) -> "CloBlock":
        """Return a block of parts that exist already."""
        block = cls.__new__(cls)
        nn.Module.__init__(block)
        block.norm1, block.attn, block.norm2, block.downsample, block.mlp = norm1, attn, norm2, downsample, mlp
        return block

    def attend(self, x: Tensor) -> Tensor:
        """Compute the first half: x + attention, (B, C, H, W) to the same shape."""
        out: Tensor = x + self.attn(self.norm1(x))
        return out

    def feed_forward(self, x: Tensor) -> Tensor:
        """Compute the second half: skip + ConvFFN, (B, C, H, W) to (B, C_out, H / stride, W / stride)."""
        out: Tensor = self.downsample(x) + self.mlp(self.norm2(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C_out, H / stride, W / stride)."""
        return self.feed_forward(self.attend(x))


class CloLayer(nn.Module):
    """One stage: blocks of one width; all but the last stage end in a down-sampling block."""

    def __init__(self, architecture: Architecture, stage: int) -> None:
        super().__init__()
        dim = architecture.embed_dims[stage]
        depth = architecture.depths[stage]
        last_stage = stage == len(architecture.embed_dims) - 1
        self.blocks = nn.ModuleList(CloBlock(architecture, stage, dim, 1) for _ in range(depth - (not last_stage)))
        if not last_stage:
            self.blocks.append(CloBlock(architecture, stage, architecture.embed_dims[stage + 1], 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stage's feature map and its output (the next stage's input).

        The feature map is the residual stream just before the last ConvFFN where that ConvFFN
        down-samples, else the output itself.
        """
        for block in self.blocks[:-1]:
            x = block(x)
        last = cast(CloBlock, self.blocks[-1])
        attended = last.attend(x)
        out = last.feed_forward(attended)
        return (attended if out.shape[-1] != attended.shape[-1] else out), out


class CloFormerBody(nn.Module):
    """Stem and stages, which all tasks share. Input: normalized RGB, float32, (B, 3, H, W), H and W multiples of 32.

    A head is a subclass that adds its own modules beside `patch_embed` and `layers` and defines `forward`, so that
    parameters keep their published names.
    """

    family = "cloformer"

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.patch_embed = PatchEmbed(architecture.in_chans, architecture.embed_dims[0])
        self.layers = nn.ModuleList(CloLayer(architecture, stage) for stage in range(len(architecture.embed_dims)))

    @property
    def blocks(self) -> Iterator[CloBlock]:
        """Yield the blocks of all stages, first to last."""
        for layer in self.layers:
            for block in cast(CloLayer, layer).blocks:
                yield cast(CloBlock, block)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the feature pyramid, finest first: strides 4, 8, 16, 32.

        Each map is (B, embed_dims[i], H / stride, W / stride). For stages 1-3 it is the residual
        stream just before the down-sampling ConvFFN, for stage 4 the stage's output.

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        height, width = x.shape[-2:]
        if height % INPUT_MULTIPLE or width % INPUT_MULTIPLE:
            raise ValueError(f"input height {height} and width {width} must be multiples of {INPUT_MULTIPLE}")
        pyramid = []
        x = self.patch_embed(x)
        for layer in self.layers:
            feature, x = layer(x)
            pyramid.append(feature)
        return pyramid
