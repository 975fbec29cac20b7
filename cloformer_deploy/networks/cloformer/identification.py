"""The configuration of CloFormer weights, from the names and shapes of a state dict and what is said beside it.

Widths, depths, kernels, ratios and biases show in the shapes. Head counts and pooling windows do not: they are told by
a configuration, else they are assumed to be as published.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks.base import INPUT_MULTIPLE, Configuration, Shapes
from cloformer_deploy.networks.cloformer.architecture import CUSTOM, VARIANTS, Architecture, HeadName, parsed
from cloformer_deploy.networks.cloformer.heads import HEADS, network
from cloformer_deploy.system.text import listed

COUNTER = ".num_batches_tracked"
"""Ending of BatchNorm's counters, which inference does not use: a weights file may leave them out."""
STAGES = 4
MAX_CHANNELS = 4
WINDOWS = (8, 4, 2, 1)
"""Pooling windows of every published configuration."""
HEAD_WIDTH = 16
"""Channels of a head in every published stage but two, whose groups do not allow it."""
_GIVE = (
    f"pass complete CloFormer weights under the published names ({', '.join(VARIANTS)}, or of your own configuration)"
)


def identified(
    shapes: Shapes, head: HeadName | None, variant: str | None, said: Configuration | None
) -> tuple[Architecture, list[str]] | None:
    """Return the configuration of a state dict, and what had to be assumed; see `Network.identify`.

    An error about missing or unknown tensors is told against the wanted variant, else against the nearest.

    Args:
        shapes: of the body and its head.
        head: that the names show; None is none.
        variant: that is wanted, or None.
        said: see `Network.identify`.
    """
    num_classes = _num_classes(shapes, head)
    known = {name: item.of_head(head or "linear", num_classes) for name, item in VARIANTS.items()}
    differing = {name: _differing(shapes_of(item), shapes) for name, item in known.items()}
    nearest = min(differing, key=lambda name: len(differing[name]))
    if not shapes_of(known[variant if variant in known else nearest]).keys() & shapes.keys():
        return None
    if isinstance(said, str):  # other people's files have a `variant` too
        said = known[said].as_json() if said in known else None
    if said is not None and head not in (None, "linear"):  # it may be that of the classifier that the body is from
        said = {**said, "head": head, "num_classes": num_classes}
    inferred = known[nearest] if not differing[nearest] else _inferred(shapes, head, num_classes)
    if said is not None:
        architecture = _given(said, inferred)
        _check_complete("the configuration that is given", shapes_of(architecture), shapes)
    elif inferred is not None and not _differing(shapes_of(inferred), shapes):
        architecture = inferred
    else:
        if inferred is not None and variant not in known:
            differing[CUSTOM] = _differing(shapes_of(inferred), shapes)
            known[CUSTOM] = inferred
        told = variant if variant in known else min(differing, key=lambda name: len(differing[name]))
        _check_complete(told, shapes_of(known[told]), shapes)
        raise AssertionError(f"these weights are {told} and were not identified")
    for stage, window in enumerate(architecture.window_sizes):
        side = INPUT_MULTIPLE >> (stage + 2)
        if architecture.group_splits[stage][-1] and side % window:
            raise CheckpointError(
                f"window_sizes {window} of stage {stage + 1} does not divide the side of its feature map, "
                f"a multiple of {side}",
                f"windows of {side} or its divisors are supported there",
            )
    if variant not in (None, architecture.variant):
        raise CheckpointError(
            f"these are {architecture.variant} weights, not {variant}",
            f"leave --variant out, or pass --variant {architecture.variant}",
        )
    return architecture, _assumptions(architecture, said or {})


def _num_classes(shapes: Shapes, head: HeadName | None) -> int:
    """Return the number of classes that a head's tensors show; 1 where the one that shows it is missing."""
    if head is None:
        return 0
    name = f"{HEADS[head].classes[0]}weight"
    rows = (*shapes.get(name, ()), 1)[0]
    if rows == 0:
        raise CheckpointError(f"{name} has 0 rows, so the network has no classes", _GIVE)
    return rows


def shapes_of(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the complete state dict, in its order."""
    known = _shapes_of_few_classes(architecture.of_classes(min(architecture.num_classes, 1)))
    layers = HEADS[architecture.head].classes
    return {
        name: (architecture.num_classes, *shape[1:]) if name.startswith(layers) else shape
        for name, shape in known.items()
    }


@lru_cache(maxsize=16)
def _shapes_of_few_classes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in network(architecture).state_dict().items()}


def _given(said: Mapping[str, Any], inferred: Architecture | None) -> Architecture:
    """Return the configuration that is said; keys that are not said are as the shapes show them, or assumed."""
    shown = {} if inferred is None else inferred.as_json()
    if shown.get("num_classes") == 0:  # the configuration may be that of the network with its head
        said = {**said, "num_classes": 0}
    if "group_splits" in said:
        shown.pop("num_heads", None)
    try:
        return parsed({**shown, **said})
    except ValueError as error:
        raise CheckpointError(f"the configuration cannot be used: {error}", "correct it") from error


def _assumptions(architecture: Architecture, said: Mapping[str, Any]) -> list[str]:
    """Return what neither the shapes nor a configuration show, as sentences."""
    assumed = []
    if "num_heads" not in said and "group_splits" not in said:
        assumed.append(f"num_heads {list(architecture.num_heads)}")
    if "window_sizes" not in said and any(split[-1] for split in architecture.group_splits):
        assumed.append(f"window_sizes {list(architecture.window_sizes)}")
    return assumed


def _inferred(shapes: Shapes, head: HeadName | None, num_classes: int) -> Architecture | None:
    """Return the configuration that the shapes show; None where they are not those of any.

    Heads are assumed to be `HEAD_WIDTH` channels wide, or as wide as the groups allow, and the windows as published.
    """
    stages = [_Stage(shapes, f"layers.{index}.blocks.") for index in range(STAGES)]
    stem = shapes.get("patch_embed.conv1.conv.0.weight", ())
    if len(stem) != 4 or not all(stage.complete for stage in stages):
        return None
    if not 1 <= stem[1] <= MAX_CHANNELS:
        raise CheckpointError(
            f"the network takes images of {stem[1]} channels", f"pass weights for 1 to {MAX_CHANNELS} channels"
        )
    try:
        shown = Architecture(
            in_chans=stem[1],
            num_classes=num_classes,
            embed_dims=tuple(stage.width for stage in stages),
            depths=tuple(stage.depth for stage in stages),
            num_heads=tuple(stage.width // stage.head_width for stage in stages),
            group_splits=tuple(tuple(group // stage.head_width for group in stage.groups) for stage in stages),
            kernel_sizes=tuple(stage.kernels for stage in stages),
            window_sizes=WINDOWS,
            mlp_kernel_sizes=tuple(stage.mlp_kernel for stage in stages),
            mlp_ratios=tuple(stage.mlp_ratio for stage in stages),
            qkv_bias="layers.0.blocks.0.attn.proj.bias" in shapes,
            head=head or "linear",
        )
        return parsed(shown.as_json())  # which checks the bounds
    except ValueError:
        return None


class _Stage:
    """One stage as its tensors' shapes show it; its blocks are alike, so that the first one is read.

    Attributes:
        complete: whether all tensors that are read are there.
        width: channels.
        groups: channels of each local group and, last, of the global group, which is 0 where there is none.
    """

    def __init__(self, shapes: Shapes, prefix: str) -> None:
        self.depth = len({name.split(".")[3] for name in shapes if re.match(rf"{re.escape(prefix)}\d+\.", name)})
        block = f"{prefix}0."
        read = [shapes.get(f"{block}{name}", ()) for name in ("norm1.weight", "mlp.fc1.weight", "mlp.dwconv.weight")]
        local: list[tuple[int, ...]] = []
        while len(conv := shapes.get(f"{block}attn.convs.{len(local)}.weight", ())) == 4:
            local.append(conv)
        self.complete = self.depth > 0 and [len(shape) for shape in read] == [1, 4, 4]
        if self.complete:
            self.width = read[0][0]
            self.hidden, self.mlp_kernel = read[1][0], read[2][2]
            self.kernels = tuple(conv[2] for conv in local)
            whole = shapes.get(f"{block}attn.global_q.weight", (0,))[0]
            self.groups = (*(conv[0] // 3 for conv in local), whole)
            self.complete = self.width > 0 and sum(self.groups) == self.width

    @property
    def mlp_ratio(self) -> int | float:
        """Hidden channels of the ConvFFN in multiples of the width."""
        return self.hidden // self.width if self.hidden % self.width == 0 else self.hidden / self.width

    @property
    def head_width(self) -> int:
        """The largest number of channels of a head, up to `HEAD_WIDTH`, that divides all groups."""
        common = math.gcd(*self.groups)
        return max(width for width in range(1, HEAD_WIDTH + 1) if common % width == 0)


def _differing(wanted: Shapes, found: Shapes) -> list[str]:
    return [
        name
        for name in wanted.keys() | found.keys()
        if found.get(name) != wanted.get(name) and not (name.endswith(COUNTER) and name not in found)
    ]


def _check_complete(title: str, wanted: Shapes, found: Shapes) -> None:
    """Raise a CheckpointError unless every tensor is there, none is unknown, and all have the wanted shapes."""
    missing = [name for name in wanted if name not in found and not name.endswith(COUNTER)]
    unknown = sorted(found.keys() - wanted.keys())
    if missing or unknown:
        parts = [f"missing {len(missing)} of {len(wanted)} ({listed(missing)})"] if missing else []
        parts += [f"unknown {len(unknown)} ({listed(unknown)})"] if unknown else []
        raise CheckpointError(f"the tensors are not those of {title}: {', '.join(parts)}", _GIVE)
    for name, shape in wanted.items():
        if found.get(name, shape) != shape:
            raise CheckpointError(f"{name} has shape {found[name]}, not {shape} as in {title}", _GIVE)
