"""The heads that a CloFormer can have. Imports no torch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from cloformer_deploy.networks.cloformer.architecture import Architecture, HeadName

if TYPE_CHECKING:
    from cloformer_deploy.networks.cloformer.body import CloFormerBody

BODY = ("patch_embed.", "layers.")
"""Beginnings of the names of the body's tensors."""


@dataclass(frozen=True)
class Head:
    """A head.

    Attributes:
        task: that it is for, a key of `tasks.TASKS`.
        prefixes: beginnings of the names of its tensors.
        classes: beginnings of the names of the tensors whose rows are the classes.
        module: that defines the network with this head, in this folder.
        network: class in that module.
    """

    task: str
    prefixes: tuple[str, ...]
    classes: tuple[str, ...]
    module: str
    network: str


HEADS: dict[HeadName, Head] = {
    "semantic_fpn": Head("segmentation", ("segment.",), ("segment.classify.",), "segmenter", "CloFormerSegmenter"),
    "anchor_free": Head(
        "detection",
        ("detect.",),
        tuple(f"detect.scores.{index}.1." for index in range(3)),
        "detector",
        "CloFormerDetector",
    ),
    "linear": Head("classification", ("norm.", "head."), ("head.",), "classifier", "CloFormer"),
}
"""Heads by the names that a configuration uses. Weights have the first whose last prefix is among their names."""


def head_of(names: Iterable[str]) -> HeadName | None:
    """Return the head that tensors of these names have; None without any tensor of a head."""
    names = tuple(names)
    return next((key for key, head in HEADS.items() if any(name.startswith(head.prefixes[-1]) for name in names)), None)


def network(architecture: Architecture) -> "CloFormerBody":
    """Build the untrained network of a configuration; without classes it has no head."""
    module, name = "pyramid", "CloFormerPyramid"
    if architecture.num_classes:
        head = HEADS[architecture.head]
        module, name = head.module, head.network
    made: Callable[[Architecture], CloFormerBody] = getattr(
        import_module(f"cloformer_deploy.networks.cloformer.{module}"), name
    )
    return made(architecture)
