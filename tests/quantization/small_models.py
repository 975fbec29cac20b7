"""A small CloFormer, traced: two stages of one block each, the first of which down-samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from cloformer_deploy.backends.registry import lower
from cloformer_deploy.networks.cloformer import CloFormer, configured
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.observers import Histogram, observe
from cloformer_deploy.quantization.plan import Plan, plan, quantized_operators, tensors
from cloformer_deploy.quantization.recipes import Recipe
from tests.tiny import as_trained

SIDE = 64
SMALL = configured(
    embed_dims=(16, 32),
    group_splits=((3, 1), (2, 2)),
    kernel_sizes=((3,), (5,)),
    window_sizes=(8, 4),
    depths=(1, 1),
    num_classes=5,
)


def small_model(seed: int) -> CloFormer:
    """Weights as after training: statistics and affine parameters away from their initial 0 and 1."""
    return as_trained(SMALL, seed)


def noise(seed: int, count: int = 4) -> Tensor:
    """Normalized images (count, 3, SIDE, SIDE)."""
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Traced:
    """The small model lowered for integers on a target, as a graph."""

    model: CloFormer
    module: fx.GraphModule

    def plan(self, recipe: Recipe, images: Tensor, excluded_layers: tuple[str, ...] = ()) -> Plan:
        """A recipe's plan with ranges from these images."""
        return plan(self.module, recipe, observed_by(self, recipe, images), excluded_layers)

    def operators(self) -> list[fx.Node]:
        """All, in order."""
        return [node for node in self.module.graph.nodes if node.op == "call_function"]

    def nodes(self, kind: str) -> list[fx.Node]:
        """The operators of a kind, in order."""
        return [node for node in self.operators() if graph.kind(node) == kind]

    def source(self, name: str) -> str:
        """The node that makes the numbers of a node's tensor."""
        return graph.source(self._node(name)).name

    def kind_of(self, name: str) -> str:
        """Return the kind of a node."""
        return graph.kind(self._node(name))

    def parameters(self, conv: fx.Node) -> dict[fx.Node, Tensor]:
        """A convolution's weight and bias, by their nodes."""
        nodes = [item for item in conv.args[1:3] if isinstance(item, fx.Node)]
        return {node: self.module.get_parameter(str(node.target)) for node in nodes}

    def _node(self, name: str) -> fx.Node:
        found: list[fx.Node] = [node for node in self.module.graph.nodes if node.name == name]
        return found[0]


def observed_by(small: Traced, recipe: Recipe, images: Tensor) -> Mapping[str, Histogram]:
    """Return histograms of the tensors around a recipe's operators for these images."""
    planned = quantized_operators(small.module, recipe)
    return observe(small.module, tensors(small.module, recipe, planned), [images])


def values_of(module: fx.GraphModule, images: Tensor) -> dict[str, Tensor]:
    """Every tensor of a traced model, by its node."""
    found: dict[str, Tensor] = {}

    class Keeper(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n.op in ("call_function", "placeholder") and isinstance(value, Tensor):
                found[n.name] = value
            return value

    with torch.inference_mode():
        Keeper(module).run(images)
    return found


def traced(format_name: str, target: str, seed: int = 0) -> Traced:
    """Anew: bias correction changes it."""
    lowered = lower(small_model(seed), format_name, target, integer=True)
    return Traced(lowered, graph.trace(lowered, 3, SIDE, SIDE))
