"""Three networks with Clo attention in them, as people build them: a YOLO-style neck, a U-Net, and a ResNet."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from tests.own.copies import FunctionSwish, PluginAttention, PluginBlock, ProductSwish


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a network as after training: statistics and affine parameters away from their initial 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
                module.weight.copy_(1 + 0.2 * torch.randn(module.weight.shape, generator=generator))
                module.bias.copy_(0.2 * torch.randn(module.bias.shape, generator=generator))
            if isinstance(module, nn.BatchNorm2d):
                mean, var = cast(Tensor, module.running_mean), cast(Tensor, module.running_var)
                mean.copy_(0.1 * torch.randn(mean.shape, generator=generator))
                var.copy_(0.5 + torch.rand(var.shape, generator=generator))
    return model.eval()


class ConvUnit(nn.Module):
    """Convolution, BatchNorm, SiLU in place, as YOLO has them."""

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class LayerScale(nn.Module):
    """A factor for each channel, as timm has them in residual branches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.linspace(0.5, 1.5, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(1, -1, 1, 1)


class YoloNeck(nn.Module):
    """A small backbone and a top-down neck with attention on two scales; a dictionary of three feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvUnit(3, 16, stride=2), ConvUnit(16, 32, stride=2))
        self.down = nn.ModuleList([ConvUnit(32, 48, stride=2), ConvUnit(48, 64, stride=2), ConvUnit(64, 96, stride=2)])
        self.attention = nn.ModuleList(
            [PluginAttention(64, 4, (3, 1), (3,), 2), PluginAttention(96, 6, (2, 2, 2), (3, 5), 1)]
        )
        self.reduce = nn.ModuleList([ConvUnit(96, 64, 1), ConvUnit(64, 48, 1)])
        self.merge = nn.ModuleList([ConvUnit(128, 64), ConvUnit(96, 48)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        p3 = self.down[0](x)
        p4 = self.attention[0](self.down[1](p3))
        p5 = self.attention[1](self.down[2](p4))
        up = functional.interpolate(self.reduce[0](p5), scale_factor=2, mode="nearest")
        p4 = self.merge[0](torch.cat([up, p4], dim=1))
        up = functional.interpolate(self.reduce[1](p4), scale_factor=2, mode="nearest")
        return {"p3": self.merge[1](torch.cat([up, p3], dim=1)), "p4": p4, "p5": p5}


def _double(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)),
        *(nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)),
    )


class UNet(nn.Module):
    """A U-Net with a Clo block at its bottom and attention on a skip connection; one map of logits."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.first, self.second, self.third = _double(3, 24), _double(24, 48), _double(48, 64)
        self.bottom = nn.Sequential(PluginBlock(64, 64, 1), PluginBlock(64, 64, 1, ProductSwish))
        self.narrow = nn.MaxPool2d(2)
        self.skip = PluginAttention(48, 3, (2, 1), (9,), 4, qkv_bias=False, act=nn.SiLU)
        self.up1, self.up2 = nn.ConvTranspose2d(64, 48, 2, 2), nn.ConvTranspose2d(48, 24, 2, 2)
        self.join1, self.join2 = _double(96, 48), _double(48, 24)
        self.last = nn.Conv2d(24, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(self.narrow(first))
        low = self.bottom(self.third(self.narrow(second)))
        mid = self.join1(torch.cat([self.up1(low), self.skip(second)], dim=1))
        out: Tensor = self.last(self.join2(torch.cat([self.up2(mid), first], dim=1)))
        return out


class Residual(nn.Module):
    """A ResNet's basic block; with `attend` the second convolution is Clo attention after a GroupNorm of 4 groups."""

    def __init__(self, channels: int, out: int, stride: int, attend: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.second: nn.Module = nn.Conv2d(out, out, 3, 1, 1)
        if attend:
            attention = PluginAttention(out, 4, (2, 2), (7,), 2, proj_bias=True, act=FunctionSwish)
            self.second = nn.Sequential(nn.GroupNorm(4, out), attention)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        identity = self.shortcut(x)
        x = self.second(self.relu(self.bn1(self.conv1(x))))
        x += identity
        return self.relu(x)  # type: ignore[no-any-return]


class CloResNet(nn.Module):
    """A classifier whose last two of four stages attend; logits and the pooled embedding, a tuple."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 7, 2, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(
            Residual(32, 32, 2, False), Residual(32, 64, 2, False), Residual(64, 96, 1, True), Residual(96, 96, 2, True)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(96, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.pool(self.layers(self.stem(x))).flatten(1)
        return self.fc(embedding), embedding


class Around(nn.Module):
    """A network that holds one module between two convolutions."""

    def __init__(self, inner: nn.Module, channels: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, 4, 1)
        self.inner = inner
        self.last = nn.Conv2d(channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.inner(self.first(x)))
        return out


NETWORKS: dict[str, Callable[[], nn.Module]] = {"neck": YoloNeck, "unet": UNet, "resnet": CloResNet}
SIDE = 64


def network(name: str, seed: int = 0) -> nn.Module:
    """One of `NETWORKS`, as after training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return trained(NETWORKS[name](), seed)


def example(seed: int = 1, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


class Listed(nn.Module):
    """A network whose outputs are a tuple, as `torch.jit.trace` needs it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        return tuple(pytree.tree_leaves(self.model(x)))
