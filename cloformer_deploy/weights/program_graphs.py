"""The graph of a program of `torch.export` as JSON: what may be in it, and what is left of it.

The format is that of torch/_export/serde/schema.py.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.system.text import clipped

AGAIN = "trace the network again: cloformer_deploy.export(model, example, output=...)"
_OPERATOR = re.compile(r"torch\.ops\.aten\.([a-z0-9_]+)\.([A-Za-z0-9_]+)")
_OF_SIZES = re.compile(r"_operator\.(getitem|add|sub|mul|floordiv|mod)")
# fmt: off
_COMPOSITE = frozenset((
    "_unsafe_view", "adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "batch_norm", "celu", "chunk",
    "contiguous", "conv1d", "conv2d", "conv_transpose2d", "channel_shuffle", "dropout", "einsum", "expand_as",
    "flatten", "floor_divide", "glu", "group_norm", "hardsigmoid", "hardswish", "instance_norm", "layer_norm",
    "lift_fresh_copy", "linalg_vector_norm", "linear", "log_sigmoid", "log_softmax", "masked_fill", "matmul",
    "max_pool2d", "mish", "movedim", "narrow", "ones", "ones_like", "pad", "pixel_shuffle", "pixel_unshuffle",
    "prelu", "repeat_interleave", "reshape", "rms_norm", "roll", "rsub", "scaled_dot_product_attention", "selu",
    "silu", "softmax", "softplus", "split", "square", "stack", "std", "swapaxes", "t", "tile", "to", "transpose",
    "type_as", "unbind", "unflatten", "unfold", "upsample_bicubic2d", "upsample_bilinear2d", "upsample_nearest2d",
    "var_mean", "view_as", "zeros", "zeros_like",
))
# fmt: on
"""Operators of PyTorch, beside its core ones, that a network may be made of."""
_NEVER = frozenset(
    ("_local_scalar_dense", "nonzero", "rand", "randn", "randperm", "empty", "empty_strided", "native_dropout")
)
"""Core operators that give other numbers each time, or shapes that depend on values."""
_ASSERTION = "torch.ops.aten._assert_tensor_metadata.default"
"""It has no result, and asserts what every program here has: float32 on the CPU."""
_TEXT = re.compile(r"[A-Za-z,\-> ]{0,64}")
"""Texts that operators take: equations of einsum, modes of rounding and padding."""
_PATHS = re.compile(r"[A-Za-z0-9_.@,;<>()\[\]' ]{0,4000}")
_NAME = re.compile(r"[A-Za-z0-9_.@]{1,400}")
_FUNCTIONS = frozenset(("Symbol", "Integer", "Add", "Mul", "FloorDiv", "Mod", "Max", "Min"))
_SYMBOL = re.compile(r"[su][0-9]+")
_REFUSED = frozenset(("as_graph", "as_custom_obj", "as_operator", "as_complex", "as_complexes", "as_sym_float"))


def checked_model(model: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a program with everything that is not needed left out.

    Raises:
        CheckpointError: it has other operators, arguments or inputs than a network of one image has.
        KeyError, TypeError, ValueError, SyntaxError: it is no such JSON.
    """
    graph_module = model["graph_module"]
    graph = graph_module["graph"]
    graph["nodes"] = [node for node in graph["nodes"] if node["target"] != _ASSERTION]
    for node in graph["nodes"]:
        _check_target(node["target"])
        stack = node["metadata"].get("nn_module_stack", "")
        if not _PATHS.fullmatch(stack):
            raise CheckpointError(f"a node has the module path {clipped(stack)}", AGAIN)
        node["metadata"] = {"nn_module_stack": stack}
    for key, value in _walk(graph):
        _check_value(key, value)
    signature = graph_module["signature"]
    for specs, known in (
        ("input_specs", ("parameter", "buffer", "tensor_constant", "user_input")),
        ("output_specs", ("user_output",)),
    ):
        for spec in signature[specs]:
            if set(spec) - set(known):
                raise CheckpointError(f"an input or output is of the kind {clipped(', '.join(spec))}", AGAIN)

    inputs = [spec for spec in signature["input_specs"] if "user_input" in spec]
    if len(inputs) != 1:
        raise CheckpointError(f"the program takes {len(inputs)} inputs, not one image batch", AGAIN)
    names = [entry["fqn"] for entry in graph_module["module_call_graph"]]
    if not all(not name or _NAME.fullmatch(name) for name in names):
        raise CheckpointError("a module has a name that is no path", AGAIN)
    calls = [{"fqn": name, "signature": None} for name in names if name]
    given = graph_module["module_call_graph"][0]["signature"]["forward_arg_names"]
    calls.insert(0, {"fqn": "", "signature": _root_signature(len(signature["output_specs"]), given)})
    kept = {"graph": graph, "signature": signature, "module_call_graph": calls}
    kept |= {"metadata": {}, "treespec_namedtuple_fields": {}}
    return {
        "graph_module": kept,
        "opset_version": {"aten": int(model["opset_version"]["aten"])},
        "range_constraints": _ranges(model["range_constraints"]),
        "schema_version": {name: int(model["schema_version"][name]) for name in ("major", "minor")},
        "verifiers": [name for name in model["verifiers"] if name in ("ATEN", "TRAINING")],
        "torch_version": clipped(str(model["torch_version"])),
        "guards_code": [],  # Python, which torch would run
    }


def _ranges(found: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, limits in found.items():
        if not _SYMBOL.fullmatch(name):
            raise CheckpointError(f"a size is called {clipped(name)}", AGAIN)
        kept[name] = {end: None if limits[end] is None else int(limits[end]) for end in ("min_val", "max_val")}
    return kept


def _root_signature(outputs: int, names: Any) -> dict[str, Any]:
    """Return the interface of one tensor to a tuple of tensors."""
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}

    def holder(kind: str, context: str, children: list[Any]) -> dict[str, Any]:
        return {"type": f"builtins.{kind}", "context": context, "children_spec": children}

    given = holder("tuple", "null", [holder("tuple", "null", [leaf]), holder("dict", "[]", [])])
    return {
        "inputs": [],
        "outputs": [],
        "in_spec": json.dumps([1, given]),
        "out_spec": json.dumps([1, holder("tuple", "null", [leaf] * outputs)]),
        "forward_arg_names": [str(name) for name in names if str(name).isidentifier()][:1],
    }


def _check_target(target: Any) -> None:
    found = _OPERATOR.fullmatch(target) if isinstance(target, str) else None
    if found is None:
        if isinstance(target, str) and _OF_SIZES.fullmatch(target):
            return
        told = f"the program has the operator {clipped(str(target))}, which is not PyTorch's own"
        if isinstance(target, str) and target.startswith("torch.ops.higher_order.wrap_with_"):
            raise CheckpointError(told, "save program.run_decompositions({}): it resolves autocast and no_grad")
        raise CheckpointError(told, "leave that part out of the network, and run it after the exported file")
    name, overload = found.groups()
    name = name if name.startswith("_") else name.removesuffix("_")  # in place: made functional later
    operator = getattr(getattr(torch.ops.aten, name, None), overload, None)
    core = operator is not None and torch.Tag.core in operator.tags
    if name in _NEVER or not (core or (operator is not None and name in _COMPOSITE)):
        raise CheckpointError(
            f"the program has the operator {name}.{overload}, which is none of those that a reference may have",
            "leave that part out of the network, and run it after the exported file",
        )


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every entry of nested JSON with its key."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item.items()
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _check_value(key: str, value: Any) -> None:
    if key in _REFUSED or (key == "device" and value["type"] != "cpu"):
        raise CheckpointError(f"the program has an argument of the kind {clipped(key)}", AGAIN)
    if key == "as_string" and not _TEXT.fullmatch(value):
        raise CheckpointError(f"the program has an argument {clipped(value)}", AGAIN)
    if key == "expr_str":
        _check_size(ast.parse(value, mode="eval").body if len(value) < 1000 else None, value)


def _check_size(node: ast.AST | None, told: str) -> None:
    """Check that a size is made of symbols, numbers and known functions: torch evaluates it as Python."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in _FUNCTIONS:
            for item in (*args, *(keyword.value for keyword in keywords)):
                said = item.value if isinstance(item, ast.Constant) else None
                if not (name == "Symbol" and isinstance(said, str) and _SYMBOL.fullmatch(said)):
                    _check_size(item, told)
        case ast.Constant(value=bool() | int()):
            pass
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            _check_size(operand, told)
        case _:
            raise CheckpointError(f"the program has the size {clipped(told)}", AGAIN)
