"""Graphs in another opset than the exporter's.

The exporter writes opset 20, which has a Gelu, and every other opset is made from that graph: older runtimes read the
same operators, and a GELU as the five that it is defined by.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cloformer_deploy.backends.onnx.options import EXPORTED_OPSET
from cloformer_deploy.errors import ToolError

if TYPE_CHECKING:
    import onnx
    from onnx.defs import OpSchema

STANDARD_DOMAINS = ("", "ai.onnx")


def in_opset(model: "onnx.ModelProto", opset: int) -> "onnx.ModelProto":
    """Return a copy of a float32 or quantized model of `EXPORTED_OPSET` in another opset.

    No operator that networks use has changed its meaning since; in a later opset they stay as they are.

    Raises:
        ToolError: an operator or one of its attributes has no form in that opset.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (standard,) = (item for item in copy.opset_import if item.domain in STANDARD_DOMAINS)
    standard.version = opset
    # Of a newer version than it needs, old runtimes refuse a file even if they know all its operators.
    copy.ir_version = onnx.helper.find_min_ir_version_for(list(copy.opset_import))
    if opset < EXPORTED_OPSET:
        older = _Older(copy.graph, opset)
        nodes = [made for node in copy.graph.node for made in older.nodes(node)]
        del copy.graph.node[:]
        copy.graph.node.extend(nodes)
        drop_unused(copy.graph)
    _unshare_factors(copy.graph)
    return copy


def drop_unused(graph: "onnx.GraphProto") -> None:
    """Remove the constants that no node reads."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _unshare_factors(graph: "onnx.GraphProto") -> None:
    """Give every product constants of its own: OpenCV 4.9 and 4.10 refuse a graph where two have the same."""
    constants = {item.name: item for item in graph.initializer}
    seen = set()
    for node in graph.node:
        for index, name in enumerate(node.input):
            if node.op_type != "MatMul" or name not in constants:
                continue
            if name in seen:
                node.input[index] = f"{name}/{node.output[0]}"
                graph.initializer.add().CopyFrom(constants[name])
                graph.initializer[-1].name = node.input[index]
            seen.add(name)


class _Older:
    """Nodes in an older opset; constants that they need are added to the graph."""

    def __init__(self, graph: "onnx.GraphProto", opset: int) -> None:
        self.graph = graph
        self.opset = opset
        self.constants = {item.name: item for item in graph.initializer}

    def nodes(self, node: "onnx.NodeProto") -> Iterator["onnx.NodeProto"]:
        """Yield the nodes that compute what a node does; it may be changed and be one of them."""
        import onnx

        if node.domain not in STANDARD_DOMAINS:
            yield node
            return
        if node.op_type == "Gelu":
            yield from self._gelu(node)
            return
        exported = onnx.defs.get_schema(node.op_type, EXPORTED_OPSET, "")
        try:
            known = onnx.defs.get_schema(node.op_type, self.opset, "")
        except onnx.defs.SchemaError:
            raise self._inexpressible(node.op_type) from None
        if known.since_version != exported.since_version:
            self._attributes(node, exported, known)
            self._axes(node, known)
        yield node

    def _gelu(self, node: "onnx.NodeProto") -> Iterator["onnx.NodeProto"]:
        """Yield x (1 + erf(x / sqrt(2))) / 2 in the order of operators that runtimes recognize and compute as one."""
        import onnx

        if any(item.name == "approximate" and item.s != b"none" for item in node.attribute):
            raise self._inexpressible("Gelu, approximate")
        (x,), (out,) = node.input, node.output
        root, one, half = self._scalar(math.sqrt(2)), self._scalar(1), self._scalar(0.5)
        steps = (
            ("Div", [x, root], f"{out}_divided"),
            ("Erf", [f"{out}_divided"], f"{out}_erf"),
            ("Add", [f"{out}_erf", one], f"{out}_gate"),
            ("Mul", [x, f"{out}_gate"], f"{out}_doubled"),
            ("Mul", [f"{out}_doubled", half], out),
        )
        for kind, inputs, output in steps:
            yield onnx.helper.make_node(kind, inputs, [output], f"{output}_{kind}")

    def _scalar(self, value: float) -> str:
        import onnx

        name = f"gelu/{value:.3g}"  # the exporter writes no stroke in a name
        if name not in self.constants:
            self.constants[name] = onnx.numpy_helper.from_array(np.asarray(value, np.float32), name)
            self.graph.initializer.append(self.constants[name])
        return name

    def _attributes(self, node: "onnx.NodeProto", exported: "OpSchema", known: "OpSchema") -> None:
        """Remove attributes that came later: where they say what the operator did before."""
        kept = []
        for item in node.attribute:
            if item.name in known.attributes:
                kept.append(item)
            # Without its new attribute, Split makes as many equal parts as it has outputs.
            elif (node.op_type, item.name) != ("Split", "num_outputs") and item != _default(exported, item.name):
                raise self._inexpressible(f"{node.op_type}, {item.name}")
        del node.attribute[:]
        node.attribute.extend(kept)

    def _axes(self, node: "onnx.NodeProto", known: "OpSchema") -> None:
        """Make an attribute of the axes of a reduction, which became an input."""
        import onnx

        if len(node.input) <= known.max_input:
            return
        axes = self.constants.get(node.input[-1])
        if "axes" not in known.attributes or len(node.input) != known.max_input + 1 or axes is None:
            raise self._inexpressible(f"{node.op_type} of {len(node.input)} inputs")
        node.attribute.append(onnx.helper.make_attribute("axes", onnx.numpy_helper.to_array(axes).tolist()))
        del node.input[-1]

    def _inexpressible(self, what: str) -> ToolError:
        return ToolError(
            f"the graph has an operator without a form in ONNX opset {self.opset}: {what}",
            f"export with --opset {EXPORTED_OPSET}",
        )


def _default(schema: "OpSchema", name: str) -> "onnx.AttributeProto":
    value: onnx.AttributeProto = schema.attributes[name].default_value
    return value
