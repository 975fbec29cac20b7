"""Faults as edits of PyTorch's model, in place: what a file computes that has one. Layers are named by their paths."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cloformer_deploy.data import Preprocessing

Edit = Callable[[nn.Module], None]
STEM, HEAD = "patch_embed.conv1.conv.0", "head"
_PUBLISHED = Preprocessing.published(224, 224)
MEAN, STD = torch.tensor(_PUBLISHED.mean), torch.tensor(_PUBLISHED.std)


def _layer(path: str, change: Callable[[Tensor, Tensor], object]) -> Edit:
    """Change weights (outputs, inputs, ...) and bias (outputs,) of one layer; a layer without has an empty bias."""

    def edit(model: nn.Module) -> None:
        layer = model.get_submodule(path)
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            raise TypeError(f"{path} has no weights")
        change(layer.weight.data, torch.empty(0) if layer.bias is None else layer.bias.data)

    return edit


def zeroed(path: str) -> Edit:
    """Weights all 0; the bias stays."""
    return _layer(path, lambda weight, _: weight.zero_())


def rolled(path: str) -> Edit:
    """Every output channel has the weights of the one before."""
    return _layer(path, lambda weight, _: weight.copy_(weight.roll(1, 0)))


def doubled(path: str) -> Edit:
    """Weights twice as large."""
    return _layer(path, lambda weight, _: weight.mul_(2))


def channels_lost(path: str, count: int) -> Edit:
    """The output channels of the largest weights are 0."""

    def change(weight: Tensor, _: Tensor) -> None:
        weight[weight.flatten(1).norm(dim=1).topk(count).indices] = 0

    return _layer(path, change)


def kernel_transposed(path: str) -> Edit:
    """Rows and columns of a kernel exchanged."""
    return _layer(path, lambda weight, _: weight.copy_(weight.transpose(2, 3).clone()))


def bias_dropped(path: str) -> Edit:
    """The bias all 0."""
    return _layer(path, lambda _, bias: bias.zero_())


def swapped(path: str, other: str) -> Edit:
    """The weights of two layers of one shape, each in the place of the other; biases stay."""

    def edit(model: nn.Module) -> None:
        first, second = (model.get_parameter(f"{each}.weight").data for each in (path, other))
        before = first.clone()
        first.copy_(second)
        second.copy_(before)

    return edit


def takes_bgr() -> Edit:
    """The first convolution reads the channels the other way round."""
    return _layer(STEM, lambda weight, _: weight.copy_(weight.flip(1)))


def takes(scale: Tensor, shift: Tensor) -> Edit:
    """The file first maps each channel of its input, x to scale * x + shift, both (3,).

    But for the border, where the first convolution pads with what 0 is mapped to, not with 0.
    """

    def change(weight: Tensor, bias: Tensor) -> None:
        bias += (weight * shift.reshape(1, 3, 1, 1)).sum(dim=(1, 2, 3))
        weight *= scale.reshape(1, 3, 1, 1)

    return _layer(STEM, change)


def takes_transposed(model: nn.Module) -> None:
    """Every kernel reads rows for columns: the logits are those of the transposed image."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.copy_(module.weight.data.transpose(2, 3).clone())


def labels_in_order(order: Callable[[Tensor], Tensor], layers: Sequence[str]) -> Edit:
    """The classes (N,) of the layers that predict them in another order."""

    def change(weight: Tensor, bias: Tensor) -> None:
        indices = order(torch.arange(len(bias)))
        weight.copy_(weight[indices])
        bias.copy_(bias[indices])

    def edit(model: nn.Module) -> None:
        for path in layers:
            _layer(path, change)(model)

    return edit


def exchanged(first: int, second: int) -> Callable[[Tensor], Tensor]:
    """An order for `labels_in_order` in which two classes have each other's place."""

    def order(classes: Tensor) -> Tensor:
        classes[[first, second]] = classes[[second, first]]
        return classes

    return order


def infinite_class(index: int) -> Edit:
    """One class has an infinite bias."""

    def change(_: Tensor, bias: Tensor) -> None:
        bias[index] = torch.inf

    return _layer(HEAD, change)


def overflowing(path: str, factor: float) -> Edit:
    """The hidden channels of a ConvFFN at so many times their size between its last two convolutions.

    The product is the same, but for what overflows between them.
    """

    def edit(model: nn.Module) -> None:
        for name in ("weight", "bias"):
            model.get_parameter(f"{path}.dwconv.{name}").data.mul_(factor)
        model.get_parameter(f"{path}.fc2.weight").data.div_(factor)

    return edit
