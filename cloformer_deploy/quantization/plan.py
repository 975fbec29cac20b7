"""A recipe applied to a graph: which operators are computed in integers, and the range of every tensor around them."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import fx

from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.observers import SMALLEST_SCALE, Histogram, Range, percentile
from cloformer_deploy.quantization.recipes import Recipe

WIDENED = 2.0
"""How far beyond what was seen 16 bits reach. They have levels to spare, and clipping new images at the extremes of
the calibration set cost trained xxs 3 dB."""


def tanh_range(bits: int) -> Range:
    """Of every tanh, with steps of a power of 2: in 8 bits 1/128, which TFLite lays down."""
    return Range(-1.0, 1 - 2.0 ** (1 - bits))


def sigmoid_range(bits: int) -> Range:
    """Of every sigmoid, with steps of a power of 2: in 8 bits 1/256, which TFLite lays down."""
    return Range(0.0, 1 - 2.0**-bits)


@dataclass(frozen=True)
class Plan:
    """What a format's quantizer is told.

    Attributes:
        recipe: what was applied.
        operators: names of the nodes that are computed in integers.
        ranges: of every tensor that they read or write, by the node that makes it.
    """

    recipe: Recipe
    operators: frozenset[str]
    ranges: Mapping[str, Range]

    @property
    def activation_bits(self) -> int:
        """Of the tensors of `ranges`."""
        if self.recipe.activation_bits is None:
            raise ValueError(f"{self.recipe.name} leaves activations float")
        return self.recipe.activation_bits


def weight_scales(weight: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """One scale for each output channel of weights (outputs, ...), whose largest magnitude is the last level."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scales: NDArray[np.float32] = np.maximum(largest / np.float32(2 ** (bits - 1) - 1), np.float32(SMALLEST_SCALE))
    return scales


def quantized_operators(
    module: fx.GraphModule, recipe: Recipe, excluded_layers: Collection[str] = ()
) -> frozenset[str]:
    """The nodes that a recipe computes in integers; a conv takes its ReLU with it.

    Args:
        module: a traced model.
        recipe: what becomes an integer.
        excluded_layers: further patterns of module paths that stay float.
    """
    floats = [re.compile(pattern) for pattern in (*recipe.excluded_layers, *excluded_layers)]
    chosen = [
        node
        for node in module.graph.nodes
        if node.op == "call_function"
        and graph.kind(node) in recipe.kinds
        and (recipe.everywhere or not (graph.is_normalization(node) or graph.is_attention(node)))
        and not any(pattern.search(graph.path(node)) for pattern in floats)
    ]
    return frozenset(name for node in chosen for name in (node.name, graph.result(node).name))


def tensors(module: fx.GraphModule, recipe: Recipe, operators: Collection[str]) -> list[str]:
    """The tensors that a recipe rounds around the given operators, by the node that makes their numbers."""
    found: dict[str, None] = {}
    for node in module.graph.nodes:
        if node.name in operators and graph.kind(node) not in ("layout", "relu"):
            written = [graph.result(node)] if recipe.rounds_outputs else []
            for tensor in (*graph.activations(node), *written):
                found[graph.source(tensor).name] = None
    return list(found)


def plan(
    module: fx.GraphModule,
    recipe: Recipe,
    seen: Mapping[str, Histogram],
    excluded_layers: Collection[str] = (),
) -> Plan:
    """Choose the range of every tensor that a planned operator reads or writes, by what was seen of it."""
    if recipe.activation_bits is None:
        return Plan(recipe, frozenset(), {})
    operators = quantized_operators(module, recipe, excluded_layers)
    nodes = {node.name: node for node in module.graph.nodes}
    ranges = {
        name: _range(graph.kind(nodes[name]), seen[name], recipe.activation_bits)
        for name in tensors(module, recipe, operators)
    }
    for node in nodes.values():
        if graph.kind(node) == "layout" and graph.source(node).name in ranges:
            ranges[node.name] = ranges[graph.source(node).name]
    return Plan(recipe, operators, ranges)


def _range(kind: str, seen: Histogram, bits: int) -> Range:
    if kind == "tanh":
        return tanh_range(bits)
    return percentile(seen) if bits <= 8 else Range(WIDENED * seen.low, WIDENED * seen.high)
