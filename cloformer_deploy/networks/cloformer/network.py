"""CloFormer as a `Network`: its weights, its rewrites, and the names of its blocks."""

import copy
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from cloformer_deploy.networks.base import (
    Balanced,
    Configuration,
    GatedProduct,
    Identity,
    Rewrite,
    ScalePair,
    Shapes,
    SoftmaxProduct,
)
from cloformer_deploy.networks.cloformer.architecture import CUSTOM, VARIANTS, parsed
from cloformer_deploy.networks.cloformer.evidence import KEYS, LANDMARKS, own_names, said
from cloformer_deploy.networks.cloformer.heads import BODY, HEADS, head_of, network
from cloformer_deploy.networks.cloformer.identification import identified, shapes_of
from cloformer_deploy.system.text import listed

if TYPE_CHECKING:
    from torch import nn

    from cloformer_deploy.networks.cloformer.attention import CloAttention
    from cloformer_deploy.networks.cloformer.body import ConvFFN

_STAGE = r"layers\.\d+"
_BLOCK = rf"{_STAGE}\.blocks\.\d+"
_BRANCHES = (
    (r"\.branches\.(\d+)\.[qkv]\.0$", r".attn.qkvs.\1"),
    (r"\.branches\.(\d+)\.[qkv]\.1$", r".attn.convs.\1"),
    (r"\.branches\.(\d+)\.gate\b", r".attn.act_blocks.\1"),
    (r"\.branches\.\d+\.q$", ".attn.global_q"),
    (r"\.branches\.\d+\.kv$", ".attn.global_kv"),
    (r"\.branches\.\d+\.avgpool$", ".attn.avgpool"),
    (r"\.branches\.\d+\.attention\b", ".attn.global_attention"),
    (r"\.branches\.\d+\.proj$", ".attn.proj"),
    (r"\.branches\.\d+$", ".attn"),
)
"""Module names after `separate_branches`, and the modules of `CloAttention` that they stand for."""


class CloFormerNetwork:
    """See `Network`."""

    name = "cloformer"
    title = "CloFormer"
    variants = (*VARIANTS, CUSTOM)
    landmarks = LANDMARKS
    configuration_keys = KEYS

    @property
    def rewrites(self) -> Mapping[str, Rewrite]:
        """See `Network.rewrites`."""
        from cloformer_deploy.networks.cloformer.lowering import REWRITES

        return REWRITES

    def identify(
        self, shapes: Shapes, variant: str | None, configuration: Configuration | None = None, *, headless: bool = False
    ) -> Identity | None:
        """See `Network.identify`. Weights without any tensor of a head are a body, whatever else they have."""
        notes: tuple[str, ...] = ()
        head = None if headless else head_of(shapes)
        if head != "linear":  # whose files have no other tensors: all must be known
            kept = BODY if head is None else (*BODY, *HEADS[head].prefixes)
            used = {name: shape for name, shape in shapes.items() if name.startswith(kept)}
            others = sorted(shapes.keys() - used.keys())
            unused = f"not used: {listed(others)}" if others else ""
            if head is None:
                taken = "the network is taken without a head, its outputs are features"
                unused = f"{taken}; {unused}" if unused else taken
            notes = (unused,) if unused else ()
            shapes = used
        found = identified(shapes, head, variant, configuration)
        if found is None:
            return None
        architecture, assumed = found
        return Identity(
            self.name,
            architecture.variant,
            architecture.as_json(),
            HEADS[architecture.head].task if architecture.num_classes else "features",
            architecture.num_classes,
            architecture.in_chans,
            tuple(assumed),
            notes,
        )

    def own_names(self, names: Collection[str]) -> dict[str, str]:
        """See `Network.own_names`."""
        return own_names(names)

    def said(
        self, mappings: Sequence[tuple[str, Mapping[str, Any]]], modules: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """See `Network.said`."""
        return said(mappings, modules)

    def check(self, variant: str, architecture: Mapping[str, Any]) -> None:
        """See `Network.check`."""
        try:
            found = parsed(architecture).variant
        except ValueError as error:
            raise ValueError(f"architecture.{error}") from error
        if variant != found:
            raise ValueError(f"the architecture is {found}, not {variant!r}")

    def state_shapes(self, architecture: Mapping[str, Any]) -> Shapes:
        """See `Network.state_shapes`."""
        return shapes_of(parsed(architecture))

    def build(self, architecture: Mapping[str, Any]) -> "nn.Module":
        """See `Network.build`."""
        return network(parsed(architecture))

    def rewritable(self, model: "nn.Module") -> "nn.Module":
        """See `Network.rewritable`."""
        return copy.deepcopy(model)

    def scale_pairs(self, model: "nn.Module") -> Iterator[ScalePair]:
        """See `Network.scale_pairs`."""
        from cloformer_deploy.networks.cloformer.body import CloFormerBody

        for block in cast(CloFormerBody, model).blocks:
            ffn = cast("ConvFFN", block.mlp)
            yield Balanced(ffn.dwconv, ffn.fc2)
            yield from attention_pairs(block.attn)

    def mistakes(self, model: "nn.Module") -> Iterator[tuple[str, "nn.Module"]]:
        """See `Network.mistakes`: the alignment of a dense head's upsampling."""
        from cloformer_deploy.networks.heads.mistakes import misaligned

        yield from misaligned(model)

    def block_of(self, path: str) -> str | None:
        """See `Network.block_of`. Modules outside the stages are blocks of their own."""
        found = re.match(rf"{_BLOCK}|{_STAGE}|[^.]+", path)
        return found[0] if found else None

    def part_of(self, path: str) -> str:
        """See `Network.part_of`: an attention, a ConvFFN, a down-sampling path, or a module outside the stages.

        A block's own operators, outside its parts, have the block's name followed by `$`.
        """
        if re.fullmatch(_BLOCK, path):
            return f"{path}$"
        within = None if self.is_stage(path) else re.match(rf"{_BLOCK}\.[^.]+|[^.]+", path)
        return within[0] if within else path

    def is_stage(self, path: str) -> bool:
        """See `Network.is_stage`."""
        return re.fullmatch(_STAGE, path) is not None

    def published_path(self, path: str, modules: Collection[str]) -> str:
        """See `Network.published_path`."""
        for pattern, name in _BRANCHES:
            path = re.sub(pattern, name, path)
        while path and path not in modules:
            path = path.rpartition(".")[0]
        return path


def of_attention(path: str, modules: Collection[str]) -> str:
    """Return the module of a `CloAttention` outside a block that a module of its branches stands for; else the path."""
    for pattern, name in _BRANCHES:
        found = re.sub(pattern, name.removeprefix(".attn"), path)
        if found != path and found in modules:
            return found
    return path


def attention_pairs(attention: "CloAttention") -> Iterator[ScalePair]:
    """Yield what equalization may balance in an attention."""
    first = 0
    parts = zip(attention.qkvs, attention.convs, attention.act_blocks, attention.local_dims, strict=True)
    for qkv, depthwise, gate, width in parts:
        yield GatedProduct(
            cast("nn.Conv2d", qkv),
            cast("nn.Conv2d", depthwise),
            cast("nn.Conv2d", gate.get_submodule("act_block.0")),
            attention.proj,
            slice(first, first + width),
        )
        first += width
    if attention.global_heads:
        yield SoftmaxProduct(attention.global_q, attention.global_kv)
