"""Configurations of CloFormer: the published variants, the two ablations, and any other (arXiv 2303.17803)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Len

if TYPE_CHECKING:
    from pydantic import TypeAdapter

CUSTOM = "custom"
"""The variant of a configuration that was not published."""

HeadName = Literal["linear", "semantic_fpn", "anchor_free"]
"""Heads of a CloFormer; the published ones are linear."""

_Width = Annotated[int, Ge(1), Le(8192)]
_Heads = Annotated[int, Ge(0), Le(1024)]
_Side = Annotated[int, Ge(1), Le(128)]
_Ratio = Annotated[int | float, Gt(0), Le(64)]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One configuration, under the keys of the published configuration files, and its head.

    Every tuple has one entry per stage.

    The bounds of numbers hold for what `parsed` reads.

    Attributes:
        in_chans: channels of the input image.
        num_classes: of the head; 0 is no head.
        embed_dims: channels of each stage.
        depths: blocks of each stage.
        num_heads: attention heads of each stage, in all groups together.
        group_splits: heads of each local group (one for each entry of `kernel_sizes`) and, last, of the global group.
        kernel_sizes: side of each local group's depthwise kernel.
        window_sizes: side of the average pooling before the global keys and values.
        mlp_kernel_sizes: side of the ConvFFN's depthwise kernel.
        mlp_ratios: hidden channels of the ConvFFN, in multiples of the stage's channels.
        qkv_bias: whether the 1x1 convolutions of the attention (q, k, v and the projection) have a bias.
        head: which head; no published key.
    """

    in_chans: Annotated[int, Ge(1), Le(4)]
    num_classes: Annotated[int, Ge(0), Le(1_000_000)]
    embed_dims: Annotated[tuple[_Width, ...], Len(1, 8)]
    depths: tuple[Annotated[int, Ge(1), Le(256)], ...]
    num_heads: tuple[Annotated[int, Ge(1), Le(1024)], ...]
    group_splits: tuple[Annotated[tuple[_Heads, ...], Len(1, 16)], ...]
    kernel_sizes: tuple[tuple[_Side, ...], ...]
    window_sizes: tuple[_Side, ...]
    mlp_kernel_sizes: tuple[_Side, ...]
    mlp_ratios: tuple[_Ratio, ...]
    qkv_bias: bool
    head: HeadName = "linear"

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    def __post_init__(self) -> None:
        stages = len(self.embed_dims)
        for name, value in vars(self).items():
            if isinstance(value, tuple) and len(value) != stages:
                raise ValueError(f"{name} has {len(value)} entries for {stages} stages")
        for stage in range(stages):
            heads, split, kernels = self.num_heads[stage], self.group_splits[stage], self.kernel_sizes[stage]
            if sum(split) != heads:
                raise ValueError(f"group_splits {list(split)} do not sum to the {heads} heads of stage {stage + 1}")
            if len(kernels) + 1 != len(split):
                raise ValueError(
                    f"kernel_sizes {list(kernels)} must have one entry fewer than group_splits {list(split)} "
                    f"(stage {stage + 1})"
                )
            if self.embed_dims[stage] % heads:
                raise ValueError(
                    f"embed_dims {self.embed_dims[stage]} is not a multiple of the {heads} heads of stage {stage + 1}"
                )
            even = [side for side in (*kernels, self.mlp_kernel_sizes[stage]) if side % 2 == 0]
            if even:
                raise ValueError(f"the kernel size {even[0]} of stage {stage + 1} is even")
            if self.hidden(stage) < 1:
                raise ValueError(f"mlp_ratios {self.mlp_ratios[stage]} leaves stage {stage + 1} no hidden channels")

    def hidden(self, stage: int) -> int:
        """Return the hidden channels of a stage's ConvFFN."""
        return int(self.embed_dims[stage] * self.mlp_ratios[stage])

    def of_classes(self, num_classes: int) -> "Architecture":
        """Return the same configuration with another number of classes."""
        return replace(self, num_classes=num_classes)

    def of_head(self, head: HeadName, num_classes: int) -> "Architecture":
        """Return the configuration with another head."""
        return replace(self, head=head, num_classes=num_classes)

    def as_json(self) -> dict[str, Any]:
        """Return the keys with JSON values; a linear head is left out, as published configurations have no such key."""
        known: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.head == "linear":
            del known["head"]
        return known

    @property
    def variant(self) -> str:
        """Name of the published configuration that this is, whatever the head and its classes; else `CUSTOM`."""
        of_published = ((name, item.of_head(self.head, self.num_classes)) for name, item in VARIANTS.items())
        return next((name for name, item in of_published if item == self), CUSTOM)


def parsed(values: Mapping[str, Any]) -> Architecture:
    """Return the configuration that untrusted keys and JSON values say; `group_splits` may stand for `num_heads`.

    Raises:
        ValueError: they are not complete, of a wrong type or out of bounds, or contradict one another.
    """
    from pydantic import ValidationError

    from cloformer_deploy.system.schema import first_error

    splits = values.get("group_splits")
    if "num_heads" not in values and isinstance(splits, list | tuple):
        heads = [sum(split) if _are_numbers(split) else 0 for split in splits]
        values = {**values, "num_heads": heads}
    try:
        return _adapter().validate_json(json.dumps(dict(values)))
    except ValidationError as error:
        raise ValueError(first_error(error)) from error


@cache
def _adapter() -> "TypeAdapter[Architecture]":
    from pydantic import TypeAdapter

    return TypeAdapter(Architecture)


def _are_numbers(split: object) -> bool:
    return isinstance(split, list | tuple) and all(isinstance(item, int) for item in split)


def configured(embed_dims: tuple[int, ...], group_splits: tuple[tuple[int, ...], ...], **changes: Any) -> Architecture:
    """Return a configuration that is as the published ones, but for what is given.

    Args:
        embed_dims: channels of each stage.
        group_splits: see `Architecture`.
        **changes: further fields of `Architecture`.
    """
    stages = len(embed_dims)
    known: dict[str, Any] = {
        "in_chans": 3,
        "num_classes": 1000,
        "depths": (2, 2, 6, 2),
        "kernel_sizes": ((3,), (5,), (7,), (9,)),
        "window_sizes": (8, 4, 2, 1),
        "mlp_kernel_sizes": (5,) * stages,
        "mlp_ratios": (4,) * stages,
        "qkv_bias": True,
    }
    return Architecture(
        embed_dims=embed_dims,
        group_splits=group_splits,
        num_heads=tuple(sum(split) for split in group_splits),
        **(known | changes),
    )


_XXS_DIMS = (32, 64, 128, 256)

VARIANTS: dict[str, Architecture] = {
    "xxs": configured(_XXS_DIMS, ((3, 1), (2, 2), (4, 4), (4, 12))),
    "xs": configured((48, 96, 160, 352), ((2, 1), (3, 3), (5, 5), (7, 15))),
    "s": configured((64, 128, 224, 448), ((3, 1), (4, 4), (7, 7), (7, 21))),
    "global": configured(_XXS_DIMS, ((4,), (4,), (8,), (16,)), kernel_sizes=((), (), (), ())),
    "local": configured(_XXS_DIMS, ((4, 0), (4, 0), (8, 0), (16, 0))),
}
"""The published configurations by name: three sizes, and the ablations without local and without global heads."""
