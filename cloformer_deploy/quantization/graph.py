"""The lowered model as a graph of named tensors: kinds of operators, and tensors that hold the same numbers.

Traced by torch.export with any batch size. A tensor has the name of the node that makes it.
"""

import copy
import operator
import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import fx, nn

_Model = TypeVar("_Model", bound=nn.Module)
ATEN = torch.ops.aten
KINDS: Mapping[Any, str] = {
    ATEN.conv2d.default: "conv",
    ATEN.linear.default: "linear",
    ATEN.relu.default: "relu",
    ATEN.add.Tensor: "add",
    ATEN.sub.Tensor: "sub",
    ATEN.rsub.Scalar: "sub",
    ATEN.mul.Tensor: "mul",
    ATEN.mean.dim: "mean",
    ATEN.rsqrt.default: "rsqrt",
    ATEN.sqrt.default: "sqrt",
    ATEN.div.Tensor: "div",
    ATEN.silu.default: "silu",
    ATEN.tanh.default: "tanh",
    ATEN.sigmoid.default: "sigmoid",
    ATEN.clamp.default: "clip",
    ATEN.gelu.default: "gelu",
    ATEN.cat.default: "concat",
    ATEN.matmul.default: "matmul",
    ATEN.einsum.default: "matmul",
    ATEN.softmax.int: "softmax",
    ATEN.avg_pool2d.default: "pool",
    ATEN.upsample_bilinear2d.vec: "resize",
    ATEN.alias.default: "layout",
    ATEN.clone.default: "layout",
    ATEN.view.default: "layout",
    ATEN._unsafe_view.default: "layout",
    ATEN.unbind.int: "layout",
    ATEN.unsqueeze.default: "layout",
    ATEN.squeeze.dims: "layout",
    ATEN.split_with_sizes.default: "layout",
    ATEN.pad.default: "layout",
    ATEN.slice.Tensor: "layout",
    ATEN.reshape.default: "layout",
    ATEN.transpose.int: "layout",
    ATEN.permute.default: "layout",
    ATEN.flatten.using_ints: "layout",
    ATEN.chunk.default: "layout",
    ATEN.split.Tensor: "layout",
    ATEN.dropout.default: "layout",
    operator.getitem: "layout",
}
"""`layout` moves numbers and changes none (but for zeros, which every range holds): in and out have one scale. `resize`
makes numbers between those it reads, and has one scale too, as TFLite requires.

An operator that is not listed is `other`.
"""
NORMALIZATIONS = ("GroupNorm", "TwoStepNorm", "PooledNorm", "GroupedNorm")
DEPTHWISE = "depthwise"


def trace(model: nn.Module, channels: int, height: int, width: int) -> fx.GraphModule:
    """Trace a model of images (B, channels, height, width), for any B; the graph shares the model's parameters."""
    dynamic = ({0: torch.export.Dim("batch")},)
    return torch.export.export(model, (torch.zeros(2, channels, height, width),), dynamic_shapes=dynamic).module()


def copied(model: _Model, traced: fx.GraphModule) -> tuple[_Model, fx.GraphModule]:
    """Return copies of a model and its graph, which go on sharing parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of copies of a graph's own signature
        return copy.deepcopy((model, traced))


def kind(node: fx.Node) -> str:
    """Return the kind of an operator, one of `KINDS`; `depthwise` for a convolution with one channel per group."""
    found = KINDS.get(node.target, "other")
    if found == "conv" and len(node.args) > 6 and node.args[6] != 1:
        return DEPTHWISE
    return found


def unknown(module: fx.GraphModule) -> dict[str, int]:
    """Return the operators of floats that no recipe knows, and that stay float therefore, with their counts."""
    found: dict[str, int] = {}
    for node in module.graph.nodes:
        if node.op == "call_function" and kind(node) == "other" and _is_float(node):
            inside = is_normalization(node) or is_attention(node)
            name = str(node.target).removeprefix("aten.").partition(".")[0]
            found[name] = found.get(name, 0) + (not inside)
    return {name: count for name, count in found.items() if count}


def is_normalization(node: fx.Node) -> bool:
    """Tell whether a node is part of a normalization."""
    return any(_class_name(entry) in NORMALIZATIONS for entry in node.meta.get("nn_module_stack", {}).values())


def is_attention(node: fx.Node) -> bool:
    """Tell whether a node is part of the global attention's products and softmax."""
    stack = node.meta.get("nn_module_stack", {}).values()
    return any(_class_name(entry).endswith("Attention") and _class_name(entry) != "CloAttention" for entry in stack)


def path(node: fx.Node) -> str:
    """Return the dotted name of the module that a node belongs to; empty for the model itself."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _class_name(entry: tuple[str, Any]) -> str:
    owner = entry[1]
    return (owner if isinstance(owner, str) else owner.__name__).rpartition(".")[2]


def activations(node: fx.Node) -> list[fx.Node]:
    """Return the tensors that a node computes from; for convolutions and linear layers the input, not the weights."""
    return [item for item in node.all_input_nodes if _is_float(item) and not is_parameter(item)]


def is_parameter(node: fx.Node) -> bool:
    """Tell whether a node is a parameter or a buffer, or moves the numbers of one."""
    return node.op == "get_attr" or (kind(node) == "layout" and all(map(is_parameter, node.all_input_nodes)))


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    if isinstance(value, (tuple, list)):
        value = value[0]
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def result(node: fx.Node) -> fx.Node:
    """Return the node whose tensor others read: every runtime fuses a ReLU into the convolution before it."""
    users = list(node.users)
    if kind(node) in ("conv", DEPTHWISE) and len(users) == 1 and kind(users[0]) == "relu":
        return users[0]
    return node


def is_fused(node: fx.Node) -> bool:
    """Tell whether a node is a ReLU that is part of the convolution before it."""
    return kind(node) == "relu" and result(node.all_input_nodes[0]) is node


def readers(node: fx.Node) -> set[fx.Node]:
    """Return the nodes that read a node's numbers, also behind operators that only move them."""
    found = [readers(user) if kind(user) == "layout" else {user} for user in node.users]
    return set().union(*found)


def source(node: fx.Node) -> fx.Node:
    """Return the node that computed a node's numbers: itself, or the one before operators that only move them.

    Operators that move the numbers of a parameter are the first that have these numbers.
    """
    while kind(node) == "layout" and (before := activations(node)):
        node = before[0]
    return node
