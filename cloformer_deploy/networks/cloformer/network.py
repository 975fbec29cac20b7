"""CloFormer as a `Network`: its weights, its rewrites, and the names of its blocks."""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks.base import Balanced, GatedProduct, Identity, Rewrite, ScalePair, Shapes, SoftmaxProduct
from cloformer_deploy.networks.cloformer.variants import VARIANTS
from cloformer_deploy.system.text import listed

if TYPE_CHECKING:
    from torch import nn

    from cloformer_deploy.networks.cloformer.attention import CloAttention
    from cloformer_deploy.networks.cloformer.body import ConvFFN

COUNTER = ".num_batches_tracked"
"""Ending of BatchNorm's counters, which inference does not use: a weights file may leave them out."""
_GIVE_PUBLISHED = f"pass weights of a published configuration ({', '.join(VARIANTS)}) under the published names"
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
    variants = tuple(VARIANTS)

    @property
    def rewrites(self) -> Mapping[str, Rewrite]:
        """See `Network.rewrites`."""
        from cloformer_deploy.networks.cloformer.lowering import REWRITES

        return REWRITES

    def identify(self, shapes: Shapes, variant: str | None) -> Identity | None:
        """See `Network.identify`. An error is told against the wanted variant, else against the nearest."""
        head = shapes.get("head.weight", ())
        num_classes = head[0] if head else 1
        differing = {name: _differing(self.state_shapes(name, num_classes), shapes) for name in VARIANTS}
        nearest = min(differing, key=lambda name: len(differing[name]))
        if variant not in (None, nearest) and not differing[nearest]:
            raise CheckpointError(
                f"these are {nearest} weights, not {variant}", f"leave --variant out, or pass --variant {nearest}"
            )
        wanted = self.state_shapes(variant or nearest, num_classes)
        if not wanted.keys() & shapes.keys():
            return None
        _check_complete(variant or nearest, wanted, shapes)
        return Identity(self.name, variant or nearest, "classification", num_classes)

    def state_shapes(self, variant: str, num_classes: int) -> Shapes:
        """See `Network.state_shapes`."""
        return {
            name: (num_classes, *shape[1:]) if name.startswith("head.") else shape
            for name, shape in _shapes_of_one_class(variant).items()
        }

    def build(self, variant: str, num_classes: int) -> "nn.Module":
        """See `Network.build`."""
        from cloformer_deploy.networks.cloformer.classifier import create_model

        return create_model(variant, num_classes)

    def architecture(self, variant: str, num_classes: int) -> dict[str, Any]:
        """See `Network.architecture`. The keys are those of the published configuration files."""
        found = VARIANTS[variant]
        stages = len(found.embed_dims)
        return {
            "in_chans": 3,
            "num_classes": num_classes,
            "embed_dims": list(found.embed_dims),
            "depths": list(found.depths),
            "num_heads": [sum(split) for split in found.group_splits],
            "group_splits": [list(split) for split in found.group_splits],
            "kernel_sizes": [list(sizes) for sizes in found.kernel_sizes],
            "window_sizes": list(found.window_sizes),
            "mlp_kernel_sizes": [found.mlp_kernel_size] * stages,
            "mlp_ratios": [found.mlp_ratio] * stages,
            "qkv_bias": True,
        }

    def scale_pairs(self, model: "nn.Module") -> Iterator[ScalePair]:
        """See `Network.scale_pairs`."""
        from cloformer_deploy.networks.cloformer.body import CloFormerBody

        for block in cast(CloFormerBody, model).blocks:
            ffn = cast("ConvFFN", block.mlp)
            yield Balanced(ffn.dwconv, ffn.fc2)
            yield from _attention_pairs(block.attn)

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


@cache
def _shapes_of_one_class(variant: str) -> dict[str, tuple[int, ...]]:
    import torch

    from cloformer_deploy.networks.cloformer.classifier import create_model

    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in create_model(variant, 1).state_dict().items()}


def _differing(wanted: Shapes, found: Shapes) -> list[str]:
    return [
        name
        for name in wanted.keys() | found.keys()
        if found.get(name) != wanted.get(name) and not (name.endswith(COUNTER) and name not in found)
    ]


def _check_complete(variant: str, wanted: Shapes, found: Shapes) -> None:
    """Raise a CheckpointError unless every tensor is there, none is unknown, and all have the wanted shapes."""
    missing = [name for name in wanted if name not in found and not name.endswith(COUNTER)]
    unknown = sorted(found.keys() - wanted.keys())
    if missing or unknown:
        parts = [f"missing {len(missing)} of {len(wanted)} ({listed(missing)})"] if missing else []
        parts += [f"unknown {len(unknown)} ({listed(unknown)})"] if unknown else []
        raise CheckpointError(f"the tensors are not those of {variant}: {', '.join(parts)}", _GIVE_PUBLISHED)
    for name, shape in wanted.items():
        if found.get(name, shape) != shape:
            raise CheckpointError(f"{name} has shape {found[name]}, not {shape} as in {variant}", _GIVE_PUBLISHED)


def _attention_pairs(attention: "CloAttention") -> Iterator[ScalePair]:
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
