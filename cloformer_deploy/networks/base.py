"""The Protocol that every network family follows. Imports no torch, so that light commands stay light."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

if TYPE_CHECKING:
    from torch import nn

INPUT_MULTIPLE = 32
"""Input height and width must be multiples of this: the coarsest feature map has stride 32."""

Color = Literal["L", "LA", "RGB", "RGBA"]
"""Channels of an image by Pillow's names of modes: L is gray, A is alpha, or whatever a last channel holds."""
COLORS: tuple[Color, ...] = get_args(Color)
PUBLISHED_COLOR: Color = "RGB"
"""The color of every published model's images."""

Rewrite = Callable[[Any], None]
"""Change a model in evaluation mode in place; its float32 outputs move by rounding only (at most 1e-5)."""
Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each entry of a state dict, by its name."""
Configuration = Mapping[str, Any] | str
"""A configuration of a network: its published keys with JSON values, or the name of a published configuration."""


@dataclass(frozen=True)
class Identity:
    """The network that a state dict belongs to.

    Attributes:
        network: name of the family, a key of `networks.NETWORKS`.
        variant: name of the published configuration; `custom` where it is another.
        architecture: the configuration under its published keys, as JSON values.
        task: the task of the head, a key of `tasks.TASKS`.
        num_classes: outputs of the head; 0 is no head.
        channels: of the input image, 1 to 4.
        assumed: sentences on what neither the state dict nor a given configuration says.
        notes: sentences on what of the state dict is not used.
    """

    network: str
    variant: str
    architecture: Mapping[str, Any]
    task: str
    num_classes: int
    channels: int
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Balanced:
    """A depthwise convolution whose output channels are read by the input channels of a 1x1 convolution alone."""

    writer: "nn.Conv2d"
    reader: "nn.Conv2d"


@dataclass(frozen=True)
class GatedProduct:
    """A local branch of Clo attention: q, k, v = depthwise(qkv(x)); gate(q * k) multiplies v; `proj` reads the result.

    Attributes:
        qkv: 1x1 convolution before the depthwise one.
        depthwise: its output channels are q, k and v, a third each.
        gate: 1x1 convolution that reads q * k.
        proj: 1x1 convolution whose input channels `columns` read the gated v.
        columns: slice of `proj`'s input channels.
    """

    qkv: "nn.Conv2d"
    depthwise: "nn.Conv2d"
    gate: "nn.Conv2d"
    proj: "nn.Conv2d"
    columns: slice


@dataclass(frozen=True)
class SoftmaxProduct:
    """Queries and keys that meet only in the product under a softmax.

    Attributes:
        q: 1x1 convolution that makes the queries.
        kv: 1x1 convolution that makes the keys (first half of its output channels) and the values.
    """

    q: "nn.Conv2d"
    kv: "nn.Conv2d"


ScalePair = Balanced | GatedProduct | SoftmaxProduct
"""Places where per-channel scales can be moved between convolutions without changing what the network computes."""


class Network(Protocol):
    """A family of networks: how its weights are identified, built, rewritten and quantized.

    Attributes:
        name: key in `networks.NETWORKS`.
        title: name of the family in prose.
        variants: names of the published configurations.
        rewrites: exact rewrites by name, in the order that they are applied in. A target lists the names it wants, in
            this order; names that a network lacks are skipped.
        landmarks: names of tensors, by one of which a state dict of the family is found in a file.
        configuration_keys: the published keys of a configuration.
    """

    name: str
    title: str
    variants: tuple[str, ...]
    landmarks: tuple[str, ...]
    configuration_keys: tuple[str, ...]

    @property
    def rewrites(self) -> Mapping[str, Rewrite]:
        """Exact rewrites by name."""
        ...

    def identify(
        self, shapes: Shapes, variant: str | None, configuration: Configuration | None = None, *, headless: bool = False
    ) -> Identity | None:
        """Identify a state dict by the names and shapes of its tensors.

        Args:
            shapes: of the state dict.
            variant: the configuration that it must be of; None accepts any.
            configuration: what is said of the configuration; None is nothing.
            headless: leave the head out.

        Returns:
            None where no tensor is this network's.

        Raises:
            CheckpointError: some tensors are this network's, but the state dict is not complete, or does not fit the
                variant or the configuration; or the configuration contradicts itself.
        """
        ...

    def own_names(self, names: Collection[str]) -> dict[str, str]:
        """Return the published name of each name in a file, for files whose names differ in known ways.

        Raises:
            CheckpointError: they show a form of the network that is not read.
        """
        ...

    def said(
        self, mappings: Sequence[tuple[str, Mapping[str, Any]]], modules: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return what a file says of the configuration, under its published keys.

        Args:
            mappings: places and entries of mappings that have some of `configuration_keys`.
            modules: attributes of the network's modules by their paths, where whole modules were saved.

        Raises:
            CheckpointError: the file says two things.
        """
        ...

    def check(self, variant: str, architecture: Mapping[str, Any]) -> None:
        """Check a configuration that a manifest names.

        Raises:
            ValueError: it contradicts itself, or is not of that variant.
        """
        ...

    def state_shapes(self, architecture: Mapping[str, Any]) -> Shapes:
        """Return the names and shapes of the complete state dict of a checked configuration, in its order."""
        ...

    def build(self, architecture: Mapping[str, Any]) -> "nn.Module":
        """Build the untrained model of a checked configuration.

        It takes normalized images (B, in_chans, H, W), float32.
        """
        ...

    def rewritable(self, model: "nn.Module") -> "nn.Module":
        """Return a copy of a model in the form that the rewrites apply to; it computes the same."""
        ...

    def scale_pairs(self, model: "nn.Module") -> Iterator[ScalePair]:
        """Yield what channel equalization may balance in a model whose BatchNorm is folded."""
        ...

    def mistakes(self, model: "nn.Module") -> Iterator[tuple[str, "nn.Module"]]:
        """Yield copies of a model with a mistake that converters make, each with the mistake in words."""
        ...

    def block_of(self, path: str) -> str | None:
        """Return the block that a module belongs to: the unit that the accuracy search keeps in float.

        Args:
            path: dotted name of the module in the lowered model.
        """
        ...

    def part_of(self, path: str) -> str:
        """Return the part of a block that a module belongs to, which is what `blame` proposes to keep in float."""
        ...

    def is_stage(self, path: str) -> bool:
        """Tell whether a path names a stage, whose own operators lie between its blocks."""
        ...

    def published_path(self, path: str, modules: Collection[str]) -> str:
        """Return the module of the published architecture that a module of a lowered model stands for.

        Args:
            path: dotted name in the lowered model.
            modules: dotted names of the published architecture's modules.
        """
        ...
