"""Nodes of a traced model grouped into the layers that a person knows: the modules of the published architecture."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import fx

from cloformer_deploy.quantization import graph

WEIGHTED = ("conv", graph.DEPTHWISE, "linear")
INPUT = "input"
"""The path of what is done to an image before the model."""
_BRANCHES = (
    (r"\.branches\.(\d+)\.[qkv]\.0$", r".attn.qkvs.\1"),
    (r"\.branches\.(\d+)\.[qkv]\.1$", r".attn.convs.\1"),
    (r"\.branches\.(\d+)\.gate\b", r".attn.act_blocks.\1"),
    (r"\.branches\.\d+\.q$", ".attn.global_q"),
    (r"\.branches\.\d+\.kv$", ".attn.global_kv"),
    (r"\.branches\.\d+\.avgpool$", ".attn.avgpool"),
    (r"\.branches\.\d+\.attention\b", ".attn.global_attention"),
    (r"\.branches\.\d+\.proj$", ".attn.proj"),
    (r"\.branches\.\d+$", ".attn"),
)
"""What a lowering that gives each branch convolutions of its own calls the parts of a `CloAttention`."""


@dataclass(frozen=True)
class Group:
    """The nodes of one layer, in order.

    Attributes:
        path: of its module, as in the published state dict.
        kind: of the operator that is most of it, as in `graph.KINDS`.
        nodes: their names.
    """

    path: str
    kind: str
    nodes: tuple[str, ...]


def published_path(path: str, modules: Collection[str]) -> str:
    """The module of the published architecture that a module of a lowered one is, or is part of."""
    for pattern, name in _BRANCHES:
        path = re.sub(pattern, name, path)
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path


def group(traced: fx.GraphModule, matched: Collection[str], modules: Collection[str]) -> list[Group]:
    """The layers that nodes of a file are part of.

    Args:
        traced: the lowered model.
        matched: names of the nodes whose tensors are known.
        modules: names of the published architecture's modules.
    """
    members: dict[str, list[fx.Node]] = {}
    for node in traced.graph.nodes:
        if node.name in matched:
            owner = _owner(node, matched)
            path = INPUT if node.op == "placeholder" else published_path(graph.path(owner), modules)
            members.setdefault(path, []).append(node)
    return [
        Group(path, _kind([_owner(node, matched) for node in nodes]), tuple(node.name for node in nodes))
        for path, nodes in members.items()
    ]


def _owner(node: fx.Node, matched: Collection[str]) -> fx.Node:
    """The convolution that a file fused with what is behind it, or the node itself."""
    behind = [node]
    while behind:
        found = behind.pop(0)
        if graph.kind(found) in WEIGHTED:
            return found
        inputs = graph.activations(found)
        if graph.kind(found) == "relu" and graph.result(inputs[0]) is found:
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
    """Of each of some nodes, whether it computes from another of them."""
    behind: dict[fx.Node, bool] = {}
    for node in traced.graph.nodes:
        behind[node] = any(item.name in names or behind[item] for item in node.all_input_nodes)
    return {node.name: behind[node] for node in behind if node.name in names}
