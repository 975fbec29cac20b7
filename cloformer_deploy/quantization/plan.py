"""Apply a recipe to a graph: choose the operators that are computed in integers, and the ranges of their tensors."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import fx

from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.observers import SMALLEST_SCALE, Histogram, Range, percentile
from cloformer_deploy.quantization.recipes import Recipe

WIDENED = 2.0
"""Factor by which 16-bit ranges exceed the observed ones. 16 bits have levels to spare, and clipping new images at the
extremes of the calibration set cost trained xxs 3 dB."""


def tanh_range(bits: int) -> Range:
    """Return the range of every tanh, with steps of a power of 2: 1/128 in 8 bits, as TFLite requires."""
    return Range(-1.0, 1 - 2.0 ** (1 - bits))


def sigmoid_range(bits: int) -> Range:
    """Return the range of every sigmoid, with steps of a power of 2: 1/256 in 8 bits, as TFLite requires."""
    return Range(0.0, 1 - 2.0**-bits)


@dataclass(frozen=True)
class Plan:
    """The instructions for a format's quantizer.

    Attributes:
        recipe: the recipe that was applied.
        operators: names of the nodes that are computed in integers.
        ranges: range of every tensor that they read or write, by the node that computes it.
        wide: names of the nodes that are computed in integers of the recipe's `excluded_bits`. Their rounding is too
            small to matter: simulations take them for float.
        wide_ranges: the same as `ranges`, of these.
        results: the ReLU behind each planned convolution that has one. Where it changes nothing, its tensor has the
            numbers of the convolution's, and may be taken for it.
    """

    recipe: Recipe
    operators: frozenset[str]
    ranges: Mapping[str, Range]
    wide: frozenset[str] = frozenset()
    wide_ranges: Mapping[str, Range] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)

    @property
    def activation_bits(self) -> int:
        """Return the bits of the tensors of `ranges`.

        Raises:
            ValueError: the recipe leaves activations float.
        """
        if self.recipe.activation_bits is None:
            raise ValueError(f"{self.recipe.name} leaves activations float")
        return self.recipe.activation_bits


def weight_scales(weight: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Return one scale per output channel of weights (outputs, ...); the largest magnitude becomes the last level."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scales: NDArray[np.float32] = np.maximum(largest / np.float32(2 ** (bits - 1) - 1), np.float32(SMALLEST_SCALE))
    return scales


def quantized_operators(
    module: fx.GraphModule, recipe: Recipe, excluded_layers: Collection[str] = ()
) -> frozenset[str]:
    """Return the nodes that a recipe computes in integers; a convolution includes its ReLU.

    Args:
        module: a traced model.
        recipe: the recipe.
        excluded_layers: further patterns of module paths that stay float.
    """
    floats = [re.compile(pattern) for pattern in (*recipe.excluded_layers, *excluded_layers)]
    chosen = [
        node
        for node in module.graph.nodes
        if node.op == "call_function"
        and graph.kind(node) in recipe.kinds - recipe.excluded_kinds
        and (recipe.everywhere or not (graph.is_normalization(node) or graph.is_attention(node)))
        and not any(pattern.search(graph.path(node)) for pattern in floats)
    ]
    return frozenset(name for node in chosen for name in (node.name, graph.result(node).name))


def tensors(module: fx.GraphModule, recipe: Recipe, operators: Collection[str]) -> list[str]:
    """Return the tensors that a recipe rounds around the given operators, by the node that computes their numbers."""
    found: dict[str, None] = {}
    for node in module.graph.nodes:
        if node.name in operators and graph.kind(node) != "layout" and not graph.is_fused(node):
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
    """Choose the range of every tensor that a planned operator reads or writes, from its histogram."""
    if recipe.activation_bits is None:
        return Plan(recipe, frozenset(), {})
    operators = quantized_operators(module, recipe, excluded_layers)
    ranges = _ranges(module, recipe, seen, operators, recipe.activation_bits)
    results = {node.name: end.name for node in module.graph.nodes if (end := graph.result(node)) is not node}
    if recipe.excluded_bits is None:
        return Plan(recipe, operators, ranges, results=results)
    wide = quantized_operators(module, recipe.everything) - operators
    return Plan(recipe, operators, ranges, wide, _ranges(module, recipe, seen, wide, recipe.excluded_bits), results)


def _ranges(
    module: fx.GraphModule, recipe: Recipe, seen: Mapping[str, Histogram], operators: Collection[str], bits: int
) -> dict[str, Range]:
    nodes = {node.name: node for node in module.graph.nodes}
    ranges = {name: _range(graph.kind(nodes[name]), seen[name], bits) for name in tensors(module, recipe, operators)}
    _share_with_concatenations(nodes, ranges, operators)
    for node in nodes.values():
        if graph.kind(node) == "resize" and node.name in operators:
            ranges[node.name] = ranges[graph.source(graph.activations(node)[0]).name]
        if graph.kind(node) == "layout" and graph.source(node).name in ranges:
            ranges[node.name] = ranges[graph.source(node).name]
    return ranges


def _share_with_concatenations(
    nodes: Mapping[str, fx.Node], ranges: dict[str, Range], operators: Collection[str]
) -> None:
    """Give what only a concatenation reads its range, to whose steps it is rounded anyway: so it is rounded once."""
    for node in reversed(list(nodes.values())):
        if graph.kind(node) != "concat" or node.name not in operators:
            continue
        for origin in map(graph.source, graph.activations(node)):
            own = graph.kind(origin) in ("tanh", "sigmoid", "resize")  # their ranges are not free
            if not own and origin.name in ranges and graph.readers(origin) == {node}:
                ranges[origin.name] = ranges[node.name]


def _range(kind: str, seen: Histogram, bits: int) -> Range:
    if kind == "tanh":
        return tanh_range(bits)
    if kind == "sigmoid":
        return sigmoid_range(bits)
    return percentile(seen) if bits <= 8 else Range(WIDENED * seen.low, WIDENED * seen.high)
