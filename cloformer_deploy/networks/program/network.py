"""A network of one's own as a `Network`: its weights and its graph are one program of `torch.export`."""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le, Len

from cloformer_deploy.networks.base import COLORS, Balanced, Configuration, Identity, Rewrite, ScalePair, Shapes

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

PROGRAM = "program"
SUFFIX = ".pt2"
"""Ending of files of `torch.export.save`."""
CUSTOM = "custom"
UNIT = 2
"""Names in a path that make a block, such as `layer1.0`."""
_KEYS = ("in_chans", "num_classes", "outputs")


class ProgramNetwork:
    """See `Network`. Its architecture is `in_chans`, `num_classes` and `outputs`: name and number of axes of each."""

    name = PROGRAM
    title = "Network"
    variants: tuple[str, ...] = (CUSTOM,)
    landmarks: tuple[str, ...] = ()
    configuration_keys: tuple[str, ...] = ()

    @property
    def rewrites(self) -> Mapping[str, Rewrite]:
        """See `Network.rewrites`: those that hold in any network."""
        from cloformer_deploy.networks.program.rewrites import REWRITES

        return REWRITES

    def identify(
        self, shapes: Shapes, variant: str | None, configuration: Configuration | None = None, *, headless: bool = False
    ) -> Identity | None:
        """See `Network.identify`: a state dict alone is no program."""
        return None

    def own_names(self, names: Collection[str]) -> dict[str, str]:
        """See `Network.own_names`."""
        return {name: name for name in names}

    def said(
        self, mappings: Sequence[tuple[str, Mapping[str, Any]]], modules: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """See `Network.said`."""
        return {}

    def check(self, variant: str, architecture: Mapping[str, Any]) -> None:
        """See `Network.check`."""
        from pydantic import TypeAdapter, ValidationError

        from cloformer_deploy.system.schema import first_error

        if variant != CUSTOM or set(architecture) != set(_KEYS):
            raise ValueError(f"a program has the variant {CUSTOM}, and an architecture of {', '.join(_KEYS)}")
        outputs = Annotated[tuple[tuple[str, Annotated[int, Ge(2), Le(4)]], ...], Len(1, 256)]
        kinds: dict[str, Any] = {
            "in_chans": Annotated[int, Ge(1), Le(len(COLORS))],
            "num_classes": Annotated[int, Ge(0), Le(1_000_000)],
            "outputs": outputs,
        }
        for name, kind in kinds.items():
            try:
                TypeAdapter(kind).validate_python(architecture[name])
            except ValidationError as error:
                raise ValueError(f"architecture.{name}: {first_error(error)}") from error
        names = [name for name, _ in architecture["outputs"]]
        if len(set(names)) != len(names):
            raise ValueError("architecture.outputs: a name occurs twice")

    def state_shapes(self, architecture: Mapping[str, Any]) -> Shapes:
        """See `Network.state_shapes`: they are in the program."""
        raise NotImplementedError

    def build(self, architecture: Mapping[str, Any]) -> "nn.Module":
        """See `Network.build`; `model_of` builds it, of a program."""
        raise NotImplementedError

    def model_of(self, program: "ExportedProgram") -> "nn.Module":
        """Return the modules of a program of one image batch (B, C, H, W), float32, in evaluation mode, as written.

        Attributes `family` and `input_shape` (C, H, W) are set on it.
        """
        from cloformer_deploy.networks.program.tree import image_shape, tree_of

        made: Any = tree_of(program)
        made.family = PROGRAM
        made.input_shape = image_shape(program)
        return made  # type: ignore[no-any-return]

    def rewritable(self, model: "nn.Module") -> "nn.Module":
        """See `Network.rewritable`: with our Clo modules in place of those that are proven equal to them."""
        import torch

        from cloformer_deploy.networks.program.preparation import replace_clo_modules

        shape: tuple[int, int, int] = model.input_shape  # type: ignore[assignment]
        example = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        copied = copy.deepcopy(model)
        replace_clo_modules(copied, example)
        return copied

    def scale_pairs(self, model: "nn.Module") -> Iterator[ScalePair]:
        """See `Network.scale_pairs`: those in our Clo modules."""
        from cloformer_deploy.networks.cloformer.attention import CloAttention
        from cloformer_deploy.networks.cloformer.body import ConvFFN
        from cloformer_deploy.networks.cloformer.network import attention_pairs

        for module in model.modules():
            if isinstance(module, ConvFFN):
                yield Balanced(module.dwconv, module.fc2)
            if isinstance(module, CloAttention):
                yield from attention_pairs(module)

    def mistakes(self, model: "nn.Module") -> Iterator[tuple[str, "nn.Module"]]:
        """See `Network.mistakes`: none is known of a network of somebody's own."""
        yield from ()

    def block_of(self, path: str) -> str | None:
        """See `Network.block_of`: the first `UNIT` names of a path."""
        return ".".join(path.split(".")[:UNIT]) or None

    def part_of(self, path: str) -> str:
        """See `Network.part_of`: a module with weights of its own."""
        return path

    def is_stage(self, path: str) -> bool:
        """See `Network.is_stage`."""
        return False

    def published_path(self, path: str, modules: Collection[str]) -> str:
        """See `Network.published_path`."""
        from cloformer_deploy.networks.cloformer.network import of_attention

        path = path if path in modules else of_attention(path, modules)
        while path and path not in modules:
            path = path.rpartition(".")[0]
        return path
