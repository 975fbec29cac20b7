"""ONNX with integers: pairs of QuantizeLinear and DequantizeLinear around the operators of a plan, weights as int8.

Activations are unsigned: with signed ones ONNX Runtime is slow, and OpenVINO wrong. A runtime computes an operator
between pairs in integers; everything else means what it says.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.base import ExportSpec
from cloformer_deploy.backends.onnx.opsets import drop_unused

if TYPE_CHECKING:
    import onnx

    from cloformer_deploy.quantization.observers import Range
    from cloformer_deploy.quantization.plan import Plan
    from cloformer_deploy.quantization.preparation import Prepared

    Nodes = list[onnx.NodeProto]

MOVES = frozenset(
    {"Relu", "Reshape", "Transpose", "Split", "Slice", "Pad", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
)
"""Operators that add no rounding of their own: a ReLU belongs to its convolution, the others move numbers."""
WEIGHTED = ("Conv", "Gemm")
ELEMENTWISE = ("Add", "Sub", "Mul", "Div")
HALF = "Sigmoid"
"""First half of a SiLU, which is one operator in the traced model."""


def quantized(
    model: "onnx.ModelProto", spec: ExportSpec, prepared: "Prepared"
) -> tuple["onnx.ModelProto", dict[str, float]]:
    """Return a quantized copy of a float32 model, and the clipped shares of its quantized tensors, by name.

    Args:
        model: with its weights inside; it is not changed.
        spec: of the file.
        prepared: the plan, and the histograms behind it.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    matches = _match(copy, spec, prepared) if prepared.plan.recipe.needs_calibration else {}
    _Quantizer(copy.graph, prepared.plan, matches).rewrite()
    shares = prepared.clipped(matches)
    # An output's name has gone to the end of its pair; the integers are still called after it.
    starts = [node for node in copy.graph.node if node.op_type == "QuantizeLinear"]
    names = {node.input[0]: node.output[0].removesuffix("_quantized") for node in starts}
    return copy, {name: shares[before] for name, before in names.items() if before in shares}


def _match(model: "onnx.ModelProto", spec: ExportSpec, prepared: "Prepared") -> dict[str, str]:
    """Return the plan's tensor that each of the model's tensors corresponds to, found by running both."""
    from cloformer_deploy.backends.interface import probe
    from cloformer_deploy.backends.onnx.tensors import OnnxTensors

    images, feed = probe(spec)
    found = ((name, tensor.values) for name, tensor in OnnxTensors(model).run(feed).items())
    inputs = {output: list(node.input) for node in model.graph.node for output in node.output}
    return prepared.matches(images, found, inputs)


class _Quantizer:
    """Rewrites one graph in place. `matches` maps its tensors to those of the plan.

    A tensor has a pair for each number of bits that it is needed in. The first is that of the operator that computed
    its numbers, through operators that only move them; others follow behind it.
    """

    def __init__(self, graph: "onnx.GraphProto", plan: "Plan", matches: Mapping[str, str]) -> None:
        self.graph = graph
        self.plan = plan
        self.matches = dict(matches)
        self.constants = {item.name: item for item in graph.initializer}
        self.users: dict[str, Nodes] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.makers = {name: node for node in graph.node for name in node.output}
        self.bits = {node.output[0]: bits for node in graph.node if (bits := self._bits(node)) is not None}
        """Bits of the activations of each planned node, by its first output."""
        self.planned = [node for node in graph.node if node.output[0] in self.bits]
        self.read: dict[str, list[int]] = {}
        self.written: dict[str, int] = {}
        if plan.recipe.needs_calibration:
            for node in self.planned:
                for name in self._tensors_read(node):
                    self.read.setdefault(name, []).append(self.bits[node.output[0]])
                self.written[self._result(node)] = self.bits[node.output[0]]
        # Before anything is renamed.
        self.pairs = {name: self._needed(name) for name in {**self.read, **self.written}}
        self.ranges = {
            (name, count): self._range(name, count) for name, needed in self.pairs.items() for count in needed
        }

    def _bits(self, node: "onnx.NodeProto") -> int | None:
        """Return the bits that a node computes in: None for floats, 0 where its weights alone are integers."""
        if not self.plan.recipe.needs_calibration:
            return 0 if node.op_type in WEIGHTED else None
        if node.op_type in MOVES:
            return None
        if node.op_type == HALF and node.output[0] not in self.matches:
            return next((found for user in self.users[node.output[0]] if (found := self._bits(user)) is not None), None)
        name = self.matches.get(node.output[0])
        if name in self.plan.operators:
            return self.plan.activation_bits
        return self.plan.recipe.excluded_bits if name in self.plan.wide else None

    def _tensors_read(self, node: "onnx.NodeProto") -> list[str]:
        names = node.input[:1] if node.op_type in WEIGHTED else node.input
        return [name for name in names if name and name not in self.constants]  # optional inputs have no name

    def _result(self, node: "onnx.NodeProto") -> str:
        """Return the tensor that other nodes read: a ReLU behind the node becomes part of it."""
        users = self.users.get(node.output[0], [])
        if len(users) == 1 and users[0].op_type == "Relu":
            return str(users[0].output[0])
        return str(node.output[0])

    def _needed(self, name: str) -> list[int]:
        """Return the bits of a tensor's pairs, in their order."""
        first, moved = self.written.get(name), name
        while first is None and moved in self.makers and self.makers[moved].op_type in MOVES:
            moved = self.makers[moved].input[0]
            first = self.written.get(moved)
        return list(dict.fromkeys([*([] if first is None else [first]), *sorted(self.read.get(name, ()))]))

    def _range(self, name: str, bits: int) -> "Range":
        """Return the range of a tensor that is read or written."""
        from cloformer_deploy.quantization.plan import sigmoid_range

        wide = bits != self.plan.activation_bits
        if name in self.matches:
            node = self.matches[name]
            ranges, others = (self.plan.wide_ranges, self.plan.ranges)[:: 1 if wide else -1]
            # A moved tensor has the bits of its source first, which no operator may read it in.
            if node not in ranges and node not in others:
                node = self.plan.results.get(node, node)
            return ranges[node] if node in ranges else others[node]
        if not any(node.op_type == HALF and node.output[0] == name for node in self.planned):
            raise ValueError(f"no range is known for {name}")
        return sigmoid_range(bits)

    def rewrite(self) -> None:
        nodes: Nodes = []
        for value in self.graph.input:
            nodes += self._pairs(value.name)
        for node in self.graph.node:
            bits = self.bits.get(node.output[0])
            if bits is not None and node.op_type in WEIGHTED:
                nodes += self._weights(node, bits)
            if bits and node.op_type in ELEMENTWISE:
                nodes += self._operands(node, bits)
            for index, name in enumerate(node.input):
                if bits in self.pairs.get(name, ()):
                    node.input[index] = self._dequantized_name(name, bits)
                elif name in self.written:
                    node.input[index] = self._dequantized_name(name, self.written[name])
            nodes.append(node)
            for name in node.output:
                nodes += self._pairs(name)
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        drop_unused(self.graph)
        self._keep_output_names()

    def _dequantized_name(self, name: str, bits: int | None) -> str:
        return f"{name}_dequantized" if bits == self.pairs[name][0] else f"{name}_in_{bits}_bits_dequantized"

    def _pairs(self, name: str) -> "Nodes":
        """Return the nodes that quantize and dequantize a tensor, for each of its bits; none where it is float."""
        nodes: Nodes = []
        for bits in self.pairs.get(name, ()):
            stem = self._dequantized_name(name, bits).removesuffix("_dequantized")
            scale, zero_point = self.ranges[name, bits].grid(bits)
            parameters = [
                self._constant(f"{stem}_scale", np.float32(scale)),
                self._constant(f"{stem}_zero_point", np.asarray(zero_point, np.uint8 if bits == 8 else np.uint16)),
            ]
            source = self._dequantized_name(name, self.pairs[name][0]) if nodes else name
            nodes += _quantize_dequantize(source, stem, parameters)
        return nodes

    def _weights(self, node: "onnx.NodeProto", bits: int) -> "Nodes":
        """Put integers in place of a node's weights and bias."""
        import onnx

        from cloformer_deploy.quantization.plan import weight_scales

        weight = onnx.numpy_helper.to_array(self.constants[node.input[1]])
        scales = weight_scales(weight, self.plan.recipe.weight_bits)
        shaped = scales.reshape(-1, *[1] * (weight.ndim - 1))
        levels = 2 ** (self.plan.recipe.weight_bits - 1) - 1
        integers = np.clip(np.rint(weight / shaped), -levels, levels).astype(np.int8)
        made = [self._dequantized(node, 1, integers, scales)]
        if len(node.input) > 2 and self.plan.recipe.needs_calibration:
            bias = onnx.numpy_helper.to_array(self.constants[node.input[2]])
            steps = scales * np.float32(self.ranges[node.input[0], bits].grid(bits)[0])
            made.append(self._dequantized(node, 2, np.rint(bias / steps).astype(np.int32), steps))
        return made

    def _operands(self, node: "onnx.NodeProto", bits: int) -> "Nodes":
        """Put integers in place of constant operands that are no single number, such as a grid of coordinates."""
        import onnx

        from cloformer_deploy.quantization.observers import Range

        nodes: Nodes = []
        for index, name in enumerate(node.input):
            values = onnx.numpy_helper.to_array(self.constants[name]) if name in self.constants else None
            if values is None or values.size == 1:
                continue
            scale, zero_point = Range(min(float(values.min()), 0.0), max(float(values.max()), 0.0)).grid(bits)
            stem = f"{node.output[0]}_{name}"
            dtype = np.uint8 if bits == 8 else np.uint16
            integers = np.clip(np.rint(values / scale) + zero_point, 0, 2**bits - 1).astype(dtype)
            parameters = [
                self._constant(f"{stem}_quantized", integers),
                self._constant(f"{stem}_scale", np.float32(scale)),
                self._constant(f"{stem}_zero_point", np.asarray(zero_point, dtype)),
            ]
            node.input[index] = f"{stem}_dequantized"
            nodes.append(
                onnx.helper.make_node("DequantizeLinear", parameters, [node.input[index]], f"{stem}_DequantizeLinear")
            )
        return nodes

    def _dequantized(
        self, node: "onnx.NodeProto", index: int, integers: NDArray[Any], scales: NDArray[np.float32]
    ) -> "onnx.NodeProto":
        import onnx

        name = node.input[index]
        parameters = [
            self._constant(f"{name}_quantized", integers),
            self._constant(f"{name}_scale", scales),
            self._constant(f"{name}_zero_point", np.zeros(scales.shape, integers.dtype)),
        ]
        node.input[index] = f"{name}_dequantized"
        return onnx.helper.make_node(
            "DequantizeLinear", parameters, [node.input[index]], f"{name}_DequantizeLinear", axis=0
        )

    def _constant(self, name: str, values: NDArray[Any] | np.generic) -> str:
        import onnx

        self.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def _keep_output_names(self) -> None:
        """Keep the names of the graph's outputs: those that planned operators write pass through their pairs too."""
        for name in {value.name for value in self.graph.output} & self.written.keys():
            renamed = {name: f"{name}_exact", f"{name}_dequantized": name}
            for node in self.graph.node:
                for names in (node.input, node.output):
                    names[:] = [renamed.get(each, each) for each in names]


def _quantize_dequantize(name: str, stem: str, parameters: list[str]) -> "Nodes":
    import onnx

    return [
        onnx.helper.make_node("QuantizeLinear", [name, *parameters], [f"{stem}_quantized"], f"{stem}_QuantizeLinear"),
        onnx.helper.make_node(
            "DequantizeLinear", [f"{stem}_quantized", *parameters], [f"{stem}_dequantized"], f"{stem}_DequantizeLinear"
        ),
    ]
