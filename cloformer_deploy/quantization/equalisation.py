"""Channels of very different size brought closer before they share one scale. Exact: what one side gains the other gives.

The depthwise conv of a local branch works channel by channel, so its input can be scaled freely; its q, k and v are
scaled against the columns of what multiplies them next, as are ConvFFN's hidden channels against its second 1x1 conv
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019; the share of activations
and weights is that of Xiao et al., "SmoothQuant", 2022).
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from cloformer_deploy.architecture import CloAttention, CloFormer
from cloformer_deploy.architecture.cloformer import ConvFFN

SHARE = 0.5
"""How much of a channel's excess its weights take over: 1 makes all activations equal, 0 all weights."""
MAX_FACTOR = 64.0


def channel_maxima(model: CloFormer, batches: Iterable[Tensor]) -> dict[nn.Module, Tensor]:
    """The largest magnitude of each output channel of every convolution, over normalised images (B, 3, H, W)."""
    maxima: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:  # noqa: ARG001
        found = output.abs().amax(dim=(0, 2, 3))
        maxima[module] = torch.maximum(maxima.get(module, found), found)

    handles = [conv.register_forward_hook(note) for conv in model.modules() if isinstance(conv, nn.Conv2d)]
    try:
        with torch.inference_mode():
            for images in batches:
                model(images)
    finally:
        for handle in handles:
            handle.remove()
    return maxima


def equalise(model: CloFormer, batches: Iterable[Tensor], share=SHARE, which="abcd") -> None:
    """Scale channels in place; BatchNorm is folded already. The outputs move by rounding only."""
    maxima = channel_maxima(model, batches)
    with torch.no_grad():
        for block in model.blocks:
            ffn = cast(ConvFFN, block.mlp)
            if "d" in which: _balance(maxima[ffn.dwconv], [ffn.dwconv], 0, ffn.fc2, 0, share)
            _equalise_attention(block.attn, maxima, share, which)


def _equalise_attention(attention: CloAttention, maxima, share, which) -> None:
    first = 0
    for qkv, conv, gate, width in zip(
        attention.qkvs, attention.convs, attention.act_blocks, attention.local_dims, strict=True
    ):
        largest = maxima[cast(nn.Module, conv)].clone()
        q, k, v = largest.split(width)
        if "b" in which:
            # q and k only meet in their product: what is balanced against the gate's weights is the product.
            factors = _factors(q * k, gate.act_block[0].weight.flatten(1).abs().amax(0), share)
            even = (q / k.clamp(min=1e-12)).clamp(1/64, 64).sqrt()  # makes q and k alike
            sq, sk = factors.sqrt() / even, factors.sqrt() * even
            _scale_out(conv, sq, 0); _scale_out(conv, sk, width)
            gate.act_block[0].weight.div_((sq * sk).reshape(1, -1, 1, 1))
    
        if "c" in which:
            sv = _factors(v, attention.proj.weight[:, first:first+width].flatten(1).abs().amax(0), share)
            _scale_out(conv, sv, 2 * width)
            attention.proj.weight[:, first:first+width].div_(sv.reshape(1, -1, 1, 1))
        if "a" in which:
            m = maxima[qkv]
            s = (m.max() / m.clamp(min=1e-12)).clamp(max=MAX_FACTOR)
            _scale_out(qkv, s, 0)
            conv.weight.div_(s.reshape(-1, 1, 1, 1))
        first += width


def _scale_out(conv, s, first):
    conv.weight[first:first+len(s)].mul_(s.reshape(-1,1,1,1))
    if conv.bias is not None: conv.bias[first:first+len(s)].mul_(s)


def _factors(a, w, share):
    s = a.clamp(min=1e-12) ** -share * w.clamp(min=1e-12) ** (1 - share)
    s = s / s.log().mean().exp()
    return s.clamp(1 / MAX_FACTOR, MAX_FACTOR)


def _balance(a, convs, first, follower, col, share):
    s = _factors(a, follower.weight[:, col:col+len(a)].flatten(1).abs().amax(0), share)
    _scale_out(convs[0], s, first)
    follower.weight[:, col:col+len(a)].div_(s.reshape(1,-1,1,1))
