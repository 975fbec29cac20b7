"""Group the nodes of a traced model into layers: the modules of the published architecture."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import fx

from cloformer_deploy.networks.base import Network
from cloformer_deploy.quantization import graph

WEIGHTED = ("conv", graph.DEPTHWISE, "linear")
INPUT = "input"
"""Path of the operators that precede the model, such as the normalization."""


@dataclass(frozen=True)
class Group:
    """The nodes of one layer, in order.

    Attributes:
        path: module name, as in the published state dict.
        kind: kind of its main operator, as in `graph.KINDS`.
        nodes: names of its nodes.
    """

    path: str
    kind: str
    nodes: tuple[str, ...]


def group(network: Network, traced: fx.GraphModule, matched: Collection[str], modules: Collection[str]) -> list[Group]:
    """Return the layers that nodes of a file belong to.

    Args:
        network: the model's family.
        traced: the lowered model.
        matched: names of the nodes whose tensors are known.
        modules: names of the published architecture's modules.
    """
    members: dict[str, list[fx.Node]] = {}
    for node in traced.graph.nodes:
        if node.name in matched:
            owner = _owner(node, matched)
            path = INPUT if node.op == "placeholder" else network.published_path(graph.path(owner), modules)
            members.setdefault(path, []).append(node)
    return [
        Group(path, _kind([_owner(node, matched) for node in nodes]), tuple(node.name for node in nodes))
        for path, nodes in members.items()
    ]


def _owner(node: fx.Node, matched: Collection[str]) -> fx.Node:
    """Return the convolution that a file fused with the operators after it, or the node itself."""
    behind = [node]
    while behind:
        found = behind.pop(0)
        if graph.kind(found) in WEIGHTED:
            return found
        inputs = graph.activations(found)
        if graph.is_fused(found):
            return inputs[0]
        behind += [item for item in inputs if item.name not in matched and item.op == "call_function"]
    return node


def _kind(owners: list[fx.Node]) -> str:
    if owners[0].op == "placeholder":
        return "normalization"
    kinds = [graph.kind(owner) for owner in owners]
    weighted = [kind for kind in kinds if kind in WEIGHTED]
    return (weighted or ["normalization"] * graph.is_normalization(owners[0]) or kinds)[0]


def ancestors_among(traced: fx.GraphModule, names: Collection[str]) -> Mapping[str, bool]:
    """Tell for each of some nodes whether it depends on another of them."""
    behind: dict[fx.Node, bool] = {}
    for node in traced.graph.nodes:
        behind[node] = any(item.name in names or behind[item] for item in node.all_input_nodes)
    return {node.name: behind[node] for node in behind if node.name in names}
