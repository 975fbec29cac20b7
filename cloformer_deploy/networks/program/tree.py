"""A `torch.export` program as a tree of modules under the names that the network's own modules had.

`torch.export.unflatten` gives the tree; here its leaves become modules of torch.nn again, so that rewrites find them,
and its inner modules graph modules, which can be copied and traced. Nothing of the code that the program was traced
from is needed.
"""

import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

ATEN = torch.ops.aten
BATCH_NORM = "batch_norm_of_module"
"""Name of a BatchNorm that was part of a larger module."""


def image_shape(program: ExportedProgram) -> tuple[int, int, int]:
    """Return channels, height and width of a program's image.

    Raises:
        ValueError: its input is no float32 batch of any number of images of one size.
    """
    (name,) = program.graph_signature.user_inputs
    (value,) = (node.meta["val"] for node in program.graph.nodes if node.name == name)
    fixed = isinstance(value, Tensor) and value.dim() == 4 and all(type(side) is int for side in value.shape[1:])
    if fixed and type(value.shape[0]) is int:
        raise ValueError(
            f"its batch size is fixed to {value.shape[0]}: export it with dynamic_shapes=({{0: Dim('batch')}},)"
        )
    if not fixed or value.dtype != torch.float32:
        raise ValueError(f"it takes {value}, not a float32 image batch (B, C, H, W) of one size")
    channels, height, width = (int(side) for side in value.shape[1:])
    return channels, height, width


def output_shapes(program: ExportedProgram) -> list[tuple[Any, ...]]:
    """Return the shapes of a program's outputs; a dynamic side is a SymInt."""
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    return [tuple(item.meta["val"].shape) for item in output.args[0]]


def tree_of(program: ExportedProgram) -> nn.Module:
    """Return the modules of a program of one image batch, whose batch size is dynamic, in evaluation mode.

    The program must be functional (`run_decompositions({})`). The model takes the batch (B, C, H, W), and returns a
    tuple of all output tensors, in order.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unflatten's own graphs
        unflattened = torch.export.unflatten(program)
    _pass_tensors_only(unflattened)
    made = cast(fx.GraphModule, _graph_module(unflattened))
    _return_tuple(made)
    return made.eval()


def _graph_module(module: Any) -> nn.Module:
    """Return a graph module of a module that unflatten made, and its children; a plain one of one that only holds."""
    root = nn.Module()
    for name, parameter in module.named_parameters(recurse=False):
        root.register_parameter(name, nn.Parameter(parameter.detach(), requires_grad=False))
    for name, buffer in module.named_buffers(recurse=False):
        root.register_buffer(name, buffer)
    for name, child in module.named_children():
        root.add_module(name, _leaf(child) or _graph_module(child))
    if not hasattr(module, "graph"):
        return root
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    for node in graph.nodes:
        node.meta.clear()  # fake tensors cannot be copied
    for node in reversed(list(graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users:  # all are functional
            graph.erase_node(node)
        _separate_batch_norm(root, module, node)
        if node.target is ATEN.view.default:  # a view is none of an input whose channels are last
            node.target = ATEN.reshape.default
        if node.op == "get_attr" and node.users and not _holds(root, str(node.target)):  # a constant
            root.register_buffer(str(node.target), getattr(module, str(node.target)))
    made = fx.GraphModule(root, graph)
    for name, child in root.named_children():  # those that only hold others, such as lists, are in no graph
        if not hasattr(made, name):
            made.add_module(name, child)
    return made


def _holds(root: nn.Module, name: str) -> bool:
    """Tell whether a module has something of a dotted name."""
    owner, _, last = name.rpartition(".")
    try:
        return hasattr(root.get_submodule(owner), last)
    except AttributeError:
        return False


def _separate_batch_norm(root: nn.Module, module: Any, node: fx.Node) -> None:
    """Make a BatchNorm that its module computes together with other operators a module of its own, below it."""
    if node.op != "call_function" or node.target is not ATEN._native_batch_norm_legit_no_training.default:
        return
    norm = _batch_norm(module, _arguments(node))
    results = list(node.users)
    if norm is None or [user.target for user in results] != [operator.getitem] or hasattr(root, BATCH_NORM):
        return
    root.add_module(BATCH_NORM, norm)
    with node.graph.inserting_before(node):
        called = node.graph.call_module(BATCH_NORM, (node.args[0],))
    results[0].replace_all_uses_with(called)
    for unused in (results[0], node):
        node.graph.erase_node(unused)


def _return_tuple(made: fx.GraphModule) -> None:
    (output,) = (node for node in made.graph.nodes if node.op == "output")
    values = output.args[0]
    output.args = (tuple(values) if isinstance(values, (tuple, list)) else (values,),)
    made.recompile()


def _pass_tensors_only(module: Any) -> None:
    """Take away inputs that only tell a module the batch size: it is read off a tensor that the module takes anyway."""
    for child in module.children():
        _pass_tensors_only(child)
    for node in list(module.graph.nodes) if hasattr(module, "graph") else ():
        if node.op != "call_module":
            continue
        child = module.get_submodule(node.target)
        inputs = [item for item in child.graph.nodes if item.op == "placeholder"]
        sizes = [item for item in inputs if _only_batch(item)]
        carriers = [item for item in inputs if item not in sizes and isinstance(item.meta.get("val"), Tensor)]
        for place in reversed(range(len(inputs))):
            carrier = next((item for item in carriers if _batch(item) == _batch(inputs[place])), None)
            if inputs[place] in sizes and carrier is not None and not node.kwargs:
                _read_batch(child.graph, inputs[place], carrier)
                node.args = (*node.args[:place], *node.args[place + 1 :])


def _batch(node: fx.Node) -> Any:
    value = node.meta.get("val")
    size = value.shape[0] if isinstance(value, Tensor) and value.dim() else value
    return size.node.expr if isinstance(size, torch.SymInt) else None


def _only_batch(node: fx.Node) -> bool:
    """Tell whether an input is the batch size, or a tensor of which nothing but the batch size is read."""
    if _batch(node) is None:
        return False
    if isinstance(node.meta["val"], torch.SymInt):
        return True
    return all(user.target is ATEN.sym_size.int and user.args[1] == 0 for user in node.users)


def _read_batch(graph: fx.Graph, given: fx.Node, carrier: fx.Node) -> None:
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    with graph.inserting_after(last):
        size = graph.call_function(ATEN.sym_size.int, (carrier, 0))
    if isinstance(given.meta["val"], torch.SymInt):
        given.replace_all_uses_with(size)
    for user in list(given.users):
        user.replace_all_uses_with(size)
        graph.erase_node(user)
    graph.erase_node(given)


def _leaf(module: Any) -> nn.Module | None:
    """Return the torch.nn module that does what a module without children does; None where there is none."""
    if not hasattr(module, "graph"):
        return None
    nodes = [node for node in module.graph.nodes if node.op == "call_function" and node.users]
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    if list(module.children()) or len(inputs) != 1 or not nodes or nodes[0].args[0] is not inputs[0]:
        return None
    targets = [node.target for node in nodes]
    if targets == [ATEN.sigmoid.default, ATEN.mul.Tensor]:
        return nn.SiLU() if set(nodes[1].args) == {inputs[0], nodes[0]} else None
    if targets[1:] not in ([], [operator.getitem]):  # batch norm has several outputs
        return None
    make = _LEAVES.get(targets[0])
    return make(module, _arguments(nodes[0])) if make is not None else None


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of an operator by their names; tensors are nodes."""
    schema = cast(Any, node.target)._schema.arguments
    named = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    return named | dict(zip((argument.name for argument in schema), node.args, strict=False)) | dict(node.kwargs)


def _tensor(module: Any, node: fx.Node | None) -> Tensor | None:
    return None if node is None or node.op != "get_attr" else cast(Tensor, getattr(module, str(node.target))).detach()


def _conv(module: Any, known: Mapping[str, Any]) -> nn.Module | None:
    weight, bias = _tensor(module, known["weight"]), _tensor(module, known["bias"])
    if weight is None or (known["bias"] is not None and bias is None):
        return None
    made = nn.Conv2d(
        weight.shape[1] * known["groups"],
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        tuple(known["stride"]) * (3 - len(known["stride"])),
        tuple(known["padding"]) * (3 - len(known["padding"])),
        tuple(known["dilation"]) * (3 - len(known["dilation"])),
        known["groups"],
        bias is not None,
    )
    return _with(made, weight=weight, bias=bias)


def _linear(module: Any, known: Mapping[str, Any]) -> nn.Module | None:
    weight, bias = _tensor(module, known["weight"]), _tensor(module, known["bias"])
    if weight is None or (known["bias"] is not None and bias is None):
        return None
    return _with(nn.Linear(weight.shape[1], weight.shape[0], bias is not None), weight=weight, bias=bias)


def _batch_norm(module: Any, known: Mapping[str, Any]) -> nn.Module | None:
    names = ("weight", "bias", "running_mean", "running_var")
    found = {name: _tensor(module, known[name]) for name in names}
    if any(value is None for value in found.values()):
        return None
    return _with(nn.BatchNorm2d(len(cast(Tensor, found["weight"])), known["eps"]), **found)


def _group_norm(module: Any, known: Mapping[str, Any]) -> nn.Module | None:
    weight, bias = _tensor(module, known["weight"]), _tensor(module, known["bias"])
    if weight is None or bias is None:
        return None
    return _with(nn.GroupNorm(known["num_groups"], len(weight), known["eps"]), weight=weight, bias=bias)


def _pool(module: Any, known: Mapping[str, Any]) -> nn.Module | None:  # noqa: ARG001 - the form of all makers
    plain = not known["ceil_mode"] and known["count_include_pad"] and known["divisor_override"] is None
    kernel, stride = known["kernel_size"], known["stride"] or known["kernel_size"]
    return nn.AvgPool2d(tuple(kernel), tuple(stride), tuple(known["padding"])) if plain and len(kernel) == 2 else None


def _gelu(module: Any, known: Mapping[str, Any]) -> nn.Module:  # noqa: ARG001
    return nn.GELU(known["approximate"])


def _with(module: nn.Module, **tensors: Tensor | None) -> nn.Module:
    for name, value in tensors.items():
        if isinstance(getattr(module, name), nn.Parameter) and value is not None:
            setattr(module, name, nn.Parameter(value, requires_grad=False))
        elif value is not None:
            module.register_buffer(name, value)
    return module


_LEAVES: Mapping[Any, Callable[[Any, Mapping[str, Any]], nn.Module | None]] = {
    ATEN.conv2d.default: _conv,
    ATEN.linear.default: _linear,
    ATEN._native_batch_norm_legit_no_training.default: _batch_norm,
    ATEN.group_norm.default: _group_norm,
    ATEN.avg_pool2d.default: _pool,
    ATEN.gelu.default: _gelu,
    ATEN.silu.default: lambda module, known: nn.SiLU(),  # noqa: ARG005
    ATEN.relu.default: lambda module, known: nn.ReLU(),  # noqa: ARG005
}
"""Makers of torch.nn modules by the operator that they are; each gets the unflattened module and the arguments."""
