"""A recipe applied to a graph: which operators are computed in integers, and the range of every tensor around them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import fx

from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.observers import Histogram, Method, Range
from cloformer_deploy.quantization.recipes import Recipe

TANH_RANGE = Range(-1.0, 127 / 128)
"""The 8-bit grid of a tanh: steps of 1/128, which TFLite fixes."""


@dataclass(frozen=True)
class Plan:
    """What a format's quantiser is told.

    Attributes:
        recipe: what was applied.
        operators: names of the nodes that are computed in integers.
        ranges: of every tensor that they read or write, by the node that makes it.
    """

    recipe: Recipe
    operators: frozenset[str]
    ranges: Mapping[str, Range]


def quantized_operators(module: fx.GraphModule, recipe: Recipe, left_float: Collection[str] = ()) -> frozenset[str]:
    """The nodes that a recipe computes in integers, without those left in float."""
    return frozenset(
        node.name
        for node in module.graph.nodes
        if node.op == "call_function"
        and graph.kind(node) in recipe.kinds
        and node.name not in left_float
        and (recipe.everywhere or not (graph.is_normalization(node) or graph.is_attention(node)))
    )


def tensors(module: fx.GraphModule, operators: Collection[str]) -> list[str]:
    """The tensors that the given operators read or write, by the node that makes their numbers."""
    found: dict[str, None] = {}
    for node in module.graph.nodes:
        if node.name in operators and graph.kind(node) != "layout":
            for tensor in (*graph.activations(node), graph.result(node)):
                found[graph.source(tensor).name] = None
    return list(found)


def plan(
    module: fx.GraphModule,
    recipe: Recipe,
    seen: Mapping[str, Histogram],
    method: Method,
    left_float: Collection[str] = (),
) -> Plan:
    """Choose the range of every tensor that has one by what was seen of it."""
    operators = quantized_operators(module, recipe, left_float)
    levels = 2 ** (recipe.activation_bits or 8)
    nodes = {node.name: node for node in module.graph.nodes}
    ranges = {
        name: TANH_RANGE if graph.kind(nodes[name]) == "tanh" else method(seen[name], levels)
        for name in tensors(module, operators)
    }
    return Plan(recipe, operators, ranges)
