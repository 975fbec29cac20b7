"""Channels of very different size brought closer before they share one scale. Exact: one gains what another gives.

A depthwise conv works channel by channel, so what it reads can be scaled freely. What it writes is scaled against the
columns of the 1x1 conv that reads it: q and k against the gate's, v against the projection's, ConvFFN's hidden channels
against its second conv's (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019;
the balance between activations and weights is that of Xiao et al., "SmoothQuant", 2022). Queries and keys of the global
attention are scaled against each other, and keys lose their offset: what a softmax adds to a whole row it takes away.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from cloformer_deploy.networks.cloformer import CloAttention, CloFormer
from cloformer_deploy.networks.cloformer.cloformer import ConvFFN

MAX_FACTOR = 64.0
"""A channel that is nearly always 0 is not blown up without end."""
_TINY = 1e-12


def equalize(model: CloFormer, batches: Iterable[Tensor]) -> None:
    """Scale channels in place, by what normalized images (B, 3, H, W) show; the logits move by rounding only.

    BatchNorm is folded already.
    """
    seen = _channel_extremes(model, batches)
    largest = {module: torch.maximum(-low, high) for module, (low, high) in seen.items()}
    with torch.no_grad():
        for block in model.blocks:
            ffn = cast(ConvFFN, block.mlp)
            factors = _balance(largest[ffn.dwconv], ffn.fc2.weight)
            _scale_outputs(ffn.dwconv, factors)
            _scale_inputs(ffn.fc2, 1 / factors)
            _equalize_attention(block.attn, largest)
            if block.attn.global_heads:
                _equalize_global_attention(block.attn, largest, *seen[block.attn.global_kv])


def _channel_extremes(model: CloFormer, batches: Iterable[Tensor]) -> dict[nn.Module, tuple[Tensor, Tensor]]:
    """The smallest and the largest value of each output channel of every convolution."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:  # noqa: ARG001 - the signature of a hook
        found = output.amin(dim=(0, 2, 3)), output.amax(dim=(0, 2, 3))
        low, high = seen.get(module, found)
        seen[module] = torch.minimum(low, found[0]), torch.maximum(high, found[1])

    handles = [conv.register_forward_hook(note) for conv in model.modules() if isinstance(conv, nn.Conv2d)]
    try:
        with torch.no_grad():
            for images in batches:
                model(images)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _equalize_attention(attention: CloAttention, largest: dict[nn.Module, Tensor]) -> None:
    first = 0
    parts = zip(attention.qkvs, attention.convs, attention.act_blocks, attention.local_dims, strict=True)
    for qkv, depthwise, gate, width in parts:
        q, k, v = largest[depthwise].tensor_split(3)
        gate_conv = cast(nn.Conv2d, gate.get_submodule("act_block.0"))
        product = _balance(q * k, gate_conv.weight)
        # q and k meet only in their product, so each can be made as large as the other.
        even = (k.clamp(min=_TINY) / q.clamp(min=_TINY)).sqrt().clamp(1 / MAX_FACTOR, MAX_FACTOR)
        columns = slice(first, first + width)
        value = _balance(v, attention.proj.weight[:, columns])
        _scale_outputs(depthwise, torch.cat([product.sqrt() * even, product.sqrt() / even, value]))
        _scale_inputs(gate_conv, 1 / product)
        attention.proj.weight[:, columns] /= value.reshape(1, -1, 1, 1)
        free = largest[qkv].max() / largest[qkv].clamp(min=_TINY)
        free = free.clamp(max=MAX_FACTOR)
        _scale_outputs(qkv, free)
        cast(nn.Conv2d, depthwise).weight.div_(free.reshape(-1, 1, 1, 1))
        first += width


def _equalize_global_attention(
    attention: CloAttention, largest: dict[nn.Module, Tensor], low: Tensor, high: Tensor
) -> None:
    """Centre keys, the first half of `low` and `high`, and share the size of the products out evenly with the queries.

    That also keeps the logits small that the ranges of both allow (`bounds`). Keys and values have one scale: the keys
    are made as large as the values.
    """
    kv, q = attention.global_kv, largest[attention.global_q].clamp(min=_TINY)
    keys, values = ((high - low) / 2).clamp(min=_TINY).chunk(2)[0], largest[attention.global_kv].chunk(2)[1]
    cast(Tensor, kv.bias).chunk(2)[0].sub_((low + high).chunk(2)[0] / 2)
    factors = (q / keys).sqrt()
    factors = (factors * values.max() / (factors * keys).max()).clamp(1 / MAX_FACTOR, MAX_FACTOR)
    _scale_outputs(attention.global_q, 1 / factors)
    _scale_outputs(kv, torch.cat([factors, torch.ones_like(factors)]))


def _balance(activations: Tensor, weight: Tensor) -> Tensor:
    """Factors (channels,), halfway between equal activations and equal columns of weights (outputs, channels, 1, 1)."""
    columns = weight.flatten(1).abs().amax(dim=0)
    factors = (columns.clamp(min=_TINY) / activations.clamp(min=_TINY)).sqrt()
    return (factors / factors.log().mean().exp()).clamp(1 / MAX_FACTOR, MAX_FACTOR)


def _scale_outputs(conv: nn.Module, factors: Tensor) -> None:
    for parameter in conv.parameters():
        parameter.mul_(factors.reshape(-1, *[1] * (parameter.dim() - 1)))


def _scale_inputs(conv: nn.Conv2d, factors: Tensor) -> None:
    conv.weight.mul_(factors.reshape(1, -1, 1, 1))
