"""Equalize channels of very different magnitude before they share one scale.

Channel equalization moves per-channel factors between convolutions, which changes nothing but rounding. A depthwise
convolution works channel by channel, so its inputs can be scaled freely. Its outputs are scaled against the input
columns of the 1x1 convolution that reads them (Nagel et al., "Data-Free Quantization Through Weight Equalization and
Bias Correction", 2019; the balance between activations and weights is that of Xiao et al., "SmoothQuant", 2022).
Queries and keys of a softmax are scaled against each other, and keys lose their offset: a softmax does not change when
a constant is added to a row. The network says where such pairs are (`networks.base.ScalePair`).
"""

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any, cast

import torch
from torch import Tensor, nn

from cloformer_deploy.networks.base import Balanced, GatedProduct, Network, SoftmaxProduct
from cloformer_deploy.quantization.batches import each_batch

MAX_FACTOR = 64.0
"""Largest factor, so that a channel that is nearly always 0 is not scaled without bound."""
_TINY = 1e-12

Extremes = Mapping[nn.Module, tuple[Tensor, Tensor]]
"""Smallest and largest value of each output channel of every convolution."""


def equalize(network: Network, model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Scale channels in place, by the ranges that images show; the outputs move by rounding only.

    Args:
        network: the model's family.
        model: its BatchNorm must be folded already.
        batches: normalized images (B, 3, H, W).
    """
    seen = _channel_extremes(model, batches)
    with torch.no_grad():
        for pair in network.scale_pairs(model):
            match pair:
                case Balanced():
                    factors = _balance(_largest(seen, pair.writer), pair.reader.weight)
                    _scale_outputs(pair.writer, factors)
                    _scale_inputs(pair.reader, 1 / factors)
                case GatedProduct():
                    _equalize_product(pair, seen)
                case SoftmaxProduct():
                    _equalize_softmax(pair, seen)


def _channel_extremes(model: nn.Module, batches: Iterable[Tensor]) -> Extremes:
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    lock = Lock()

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:  # noqa: ARG001 - the signature of a hook
        found = output.amin(dim=(0, 2, 3)), output.amax(dim=(0, 2, 3))
        with lock:
            low, high = seen.get(module, found)
            seen[module] = torch.minimum(low, found[0]), torch.maximum(high, found[1])

    handles = [conv.register_forward_hook(note) for conv in model.modules() if isinstance(conv, nn.Conv2d)]
    try:
        each_batch(model, batches)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _largest(seen: Extremes, conv: nn.Module) -> Tensor:
    """Return the largest magnitude of each output channel."""
    low, high = seen[conv]
    return torch.maximum(-low, high)


def _equalize_product(pair: GatedProduct, seen: Extremes) -> None:
    q, k, v = _largest(seen, pair.depthwise).tensor_split(3)
    product = _balance(q * k, pair.gate.weight)
    # q and k are used only in their product, so each can be given the other's magnitude.
    even = (k.clamp(min=_TINY) / q.clamp(min=_TINY)).sqrt().clamp(1 / MAX_FACTOR, MAX_FACTOR)
    value = _balance(v, pair.proj.weight[:, pair.columns])
    _scale_outputs(pair.depthwise, torch.cat([product.sqrt() * even, product.sqrt() / even, value]))
    _scale_inputs(pair.gate, 1 / product)
    pair.proj.weight[:, pair.columns] /= value.reshape(1, -1, 1, 1)
    before = _largest(seen, pair.qkv)
    free = (before.max() / before.clamp(min=_TINY)).clamp(max=MAX_FACTOR)
    _scale_outputs(pair.qkv, free)
    pair.depthwise.weight.div_(free.reshape(-1, 1, 1, 1))


def _equalize_softmax(pair: SoftmaxProduct, seen: Extremes) -> None:
    """Center the keys, and divide the magnitude of the products evenly between queries and keys.

    That also keeps the logits small that the ranges of both allow (`bounds`). Keys and values have one scale: the keys
    are given the magnitude of the values.
    """
    low, high = seen[pair.kv]
    q = _largest(seen, pair.q).clamp(min=_TINY)
    keys, values = ((high - low) / 2).clamp(min=_TINY).chunk(2)[0], _largest(seen, pair.kv).chunk(2)[1]
    cast(Tensor, pair.kv.bias).chunk(2)[0].sub_((low + high).chunk(2)[0] / 2)
    factors = (q / keys).sqrt()
    factors = (factors * values.max() / (factors * keys).max()).clamp(1 / MAX_FACTOR, MAX_FACTOR)
    _scale_outputs(pair.q, 1 / factors)
    _scale_outputs(pair.kv, torch.cat([factors, torch.ones_like(factors)]))


def _balance(activations: Tensor, weight: Tensor) -> Tensor:
    """Return factors (channels,), halfway between equal activations and equal columns of weights.

    Args:
        activations: largest magnitude of each channel, (channels,).
        weight: of the convolution that reads them, (outputs, channels, 1, 1).
    """
    columns = weight.flatten(1).abs().amax(dim=0)
    factors = (columns.clamp(min=_TINY) / activations.clamp(min=_TINY)).sqrt()
    return (factors / factors.log().mean().exp()).clamp(1 / MAX_FACTOR, MAX_FACTOR)


def _scale_outputs(conv: nn.Module, factors: Tensor) -> None:
    for parameter in conv.parameters():
        parameter.mul_(factors.reshape(-1, *[1] * (parameter.dim() - 1)))


def _scale_inputs(conv: nn.Conv2d, factors: Tensor) -> None:
    conv.weight.mul_(factors.reshape(1, -1, 1, 1))
