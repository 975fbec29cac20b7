"""Find Clo attention, ConvFFN and Clo blocks in any network by their structure, and build ours with the same weights.

Copies of these modules have other classes and other forms of SiLU, but the published names of their parts, because the
published weights must load. Its parts do not tell what a copy computes: `alike` compares it with ours on real inputs.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from cloformer_deploy.networks.cloformer.attention import CloAttention
from cloformer_deploy.networks.cloformer.body import CloBlock, ConvFFN

ALIKE_DB = 200.0
"""Signal-to-noise ratio in float64 from which on two modules compute the same: rounding alone leaves 280 to 310."""
LOUDER = 10.0
"""Standard deviation of the noise that modules are compared on too: on small inputs tanh changes next to nothing."""
_ATTENTION_PARTS = ("qkvs", "convs", "act_blocks", "proj", "global_q", "global_kv")
_FFN_PARTS = ("fc1", "dwconv", "fc2")
_BLOCK_PARTS = ("norm1", "attn", "norm2", "mlp")


class UnlikeError(Exception):
    """A module has the names of a Clo module's parts, and is none; the text is the reason."""


def looks_like(module: nn.Module) -> str | None:
    """Return what a module looks like by the names of its parts: `attention`, `ffn`, `block`, or None."""
    names = {name for name, _ in module.named_children()}
    if "proj" in names and len(names.intersection(_ATTENTION_PARTS)) >= 3:
        return "attention"
    if names.issuperset(_FFN_PARTS):
        return "ffn"
    return "block" if names.issuperset(_BLOCK_PARTS) else None


def candidates(module: nn.Module, kind: str) -> Iterator[nn.Module]:
    """Yield modules of ours with the weights of one that looks like `kind`: for each width of heads that fits, one.

    Raises:
        UnlikeError: it has other parts.
    """
    if kind == "attention":
        yield from _attentions(module)
    elif kind == "ffn":
        yield _ffn(module)
    else:
        yield _block(module)


def alike(theirs: nn.Module, ours: nn.Module, seen: Tensor) -> float:
    """Return the lowest signal-to-noise ratio of ours against theirs, dB, on an input and on noise of its shape.

    Both are compared in float64, in which rounding hides no difference.
    """
    theirs, ours = (copy.deepcopy(module).double() for module in (theirs, ours))
    noise = torch.randn(seen.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        return min(ratio_db(theirs(given.clone()), ours(given.clone())) for given in (seen.double(), LOUDER * noise))


def ratio_db(expected: Tensor, found: Tensor) -> float:
    """Return the signal-to-noise ratio of a tensor against another of the same shape, dB; -inf where it has none."""
    if found.shape != expected.shape or not bool(torch.isfinite(found).all()):
        return -math.inf
    signal, noise = (float((item.double() ** 2).sum()) for item in (expected, found.double() - expected))
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _conv(module: Any, what: str, *, kernel: int | None = 1) -> nn.Conv2d:
    if not isinstance(module, nn.Conv2d):
        raise UnlikeError(f"its {what} is {type(module).__name__}, not Conv2d")
    if kernel is not None and (module.kernel_size != (kernel, kernel) or module.groups != 1):
        raise UnlikeError(f"its {what} is no 1x1 convolution")
    if module.dilation != (1, 1) or module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise UnlikeError(f"its {what} is dilated, or not padded with a number of zeros")
    return module


def _depthwise(module: Any, what: str) -> nn.Conv2d:
    conv = _conv(module, what, kernel=None)
    side = conv.kernel_size[0]
    if not conv.in_channels == conv.out_channels == conv.groups:
        raise UnlikeError(
            f"its {what} is no depthwise convolution: {conv.groups} groups of {conv.in_channels} channels"
        )
    if side % 2 == 0 or conv.kernel_size != (side, side) or conv.padding != (side // 2, side // 2):
        raise UnlikeError(f"its {what} has no odd, square kernel that is padded to keep the size")
    return conv


def _take(into: nn.Module, source: nn.Module) -> None:
    """Copy a layer's weight and bias; a bias that it lacks is 0."""
    wanted, found = (tuple(cast(Tensor, layer.weight).shape) for layer in (into, source))
    if wanted != found:
        raise UnlikeError(f"it has weights of shape {found} where Clo modules have {wanted}")
    with torch.no_grad():
        cast(Tensor, into.weight).copy_(cast(Tensor, source.weight))
        bias = cast("Tensor | None", source.bias)
        cast(Tensor, into.bias).zero_() if bias is None else cast(Tensor, into.bias).copy_(bias)


def _attentions(module: nn.Module) -> Iterator[CloAttention]:
    children = dict(module.named_children())
    local = [_listed(children.get(name)) for name in ("qkvs", "convs", "act_blocks")]
    if len({len(part) for part in local}) != 1:
        counts = ", ".join(f"{len(part)} {name}" for part, name in zip(local, _ATTENTION_PARTS, strict=False))
        raise UnlikeError(f"its local groups do not fit: {counts}")
    proj = _conv(children["proj"], "proj")
    qkvs = [_conv(item, "qkvs") for item in local[0]]
    convs = [_depthwise(item, "convs") for item in local[1]]
    gates = [_gate(item) for item in local[2]]
    queries, keys = (_conv(children[name], name) if name in children else None for name in ("global_q", "global_kv"))
    if (queries is None) != (keys is None) or (queries is None and not qkvs):
        raise UnlikeError("it has no complete group, neither local nor global")
    widths = [conv.out_channels // 3 for conv in convs]
    last = queries.out_channels if queries is not None else 0
    if proj.in_channels != sum(widths) + last or any(conv.stride != (1, 1) for conv in convs):
        raise UnlikeError(f"its groups have {sum(widths) + last} channels, its proj takes {proj.in_channels}")
    ours = {id(item) for item in (proj, queries, keys, *qkvs, *convs, *(conv for gate in gates for conv in gate))}
    _no_others(module, ours)
    common = math.gcd(*widths, *([last] if last else []))
    for width in (each for each in range(common, 0, -1) if common % each == 0):
        made = CloAttention(
            proj.in_channels,
            proj.in_channels // width,
            [*(group // width for group in widths), last // width],
            [conv.kernel_size[0] for conv in convs],
            _window(module) if last else 1,
        )
        pairs = [(made.proj, proj), *zip(made.qkvs, qkvs, strict=True), *zip(made.convs, convs, strict=True)]
        for block, gate in zip(made.act_blocks, gates, strict=True):
            pairs += [
                (block.get_submodule(f"act_block.{place}"), conv) for place, conv in zip((0, 2), gate, strict=True)
            ]
        if queries is not None and keys is not None:
            pairs += [(made.global_q, queries), (made.global_kv, keys)]
        for into, source in pairs:
            _take(into, source)
        yield made.eval()


def _listed(holder: nn.Module | None) -> list[nn.Module]:
    """Return the modules of a list in their order; those of a traced network may be held in another."""
    found = dict(holder.named_children()) if holder is not None else {}
    return [found[name] for name in sorted(found, key=lambda name: (len(name), name))]


def _gate(module: nn.Module) -> list[nn.Conv2d]:
    convs = [item for item in module.modules() if hasattr(item, "weight")]
    if len(convs) != 2:
        raise UnlikeError(f"a gate in its act_blocks has {len(convs)} layers with weights, not 2")
    return [_conv(item, "act_blocks") for item in convs]


def _window(module: nn.Module) -> int:
    """Return the side of the pooling window; 1 without pooling."""
    pools = [item for name, item in module.named_children() if name == "avgpool"]
    sides = [getattr(item, "kernel_size", 1) for item in pools] or [getattr(module, "window_size", 1)]
    side = sides[0][0] if isinstance(sides[0], tuple) else sides[0]
    if not isinstance(side, int) or side < 1:
        raise UnlikeError(f"its pooling window {side!r} is no number")
    return side


def _no_others(module: nn.Module, known: set[int]) -> None:
    """Refuse a module that has weights which ours has not."""
    for name, item in module.named_modules():
        if id(item) not in known and any(True for _ in item.parameters(recurse=False)):
            raise UnlikeError(f"it has weights that Clo modules have not: {name or 'its own'} ({type(item).__name__})")


def _ffn(module: nn.Module) -> ConvFFN:
    children = dict(module.named_children())
    fc1, fc2 = (_conv(children[name], name) for name in ("fc1", "fc2"))
    dwconv = _depthwise(children["dwconv"], "dwconv")
    _no_others(module, {id(item) for item in (fc1, fc2, dwconv)})
    if not fc1.out_channels == dwconv.in_channels == fc2.in_channels:
        raise UnlikeError("its layers have other numbers of channels than their inputs")
    made = ConvFFN(fc1.in_channels, fc1.out_channels, fc2.out_channels, dwconv.kernel_size[0], dwconv.stride[0])
    for into, source in ((made.fc1, fc1), (made.dwconv, dwconv), (made.fc2, fc2)):
        _take(into, source)
    return made.eval()


def _block(module: nn.Module) -> CloBlock:
    """Build a block of parts that were replaced by ours already; without a `downsample` its skip is the identity."""
    children = dict(module.named_children())
    attn, mlp = children["attn"], children["mlp"]
    if not isinstance(attn, CloAttention) or not isinstance(mlp, ConvFFN):
        raise UnlikeError("its attn is no Clo attention, or its mlp no ConvFFN")
    norms = [children[name] for name in ("norm1", "norm2")]
    for norm in norms:
        if not isinstance(norm, nn.GroupNorm) or norm.num_groups != 1 or not norm.affine:
            raise UnlikeError(f"its normalization is {norm}, not GroupNorm of one group")
    skip = children.get("downsample", nn.Identity())
    _no_others(module, {id(item) for part in (attn, mlp, skip, *norms) for item in part.modules()})
    return CloBlock.of(_copied(norms[0]), _copied(norms[1]), attn, mlp, skip)


def _copied(norm: nn.Module) -> nn.GroupNorm:
    found = cast(nn.GroupNorm, norm)
    made = nn.GroupNorm(1, found.num_channels, found.eps)
    _take(made, found)
    return made
