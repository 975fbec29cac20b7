"""Quantize for Core AI: operators for integers are put into the traced model, which is then converted like any other.

A convolution is computed from weights with a scale for each output channel, and from an input that a pair of quantize
and dequantize has rounded; its output needs no pair (see `coreml.quantize`). Everything else is float16.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from cloformer_deploy.backends.base import ExportSpec
from cloformer_deploy.backends.coreai import api
from cloformer_deploy.backends.coreai.constants import stored
from cloformer_deploy.backends.coreai.program import Program
from cloformer_deploy.backends.coreml.palettes import palette
from cloformer_deploy.backends.coreml.quantize import SMALLEST_PALETTE, SMALLEST_SCALE
from cloformer_deploy.errors import ToolError
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.plan import weight_scales

if TYPE_CHECKING:
    from cloformer_deploy.quantization.observers import Range
    from cloformer_deploy.quantization.plan import Plan
    from cloformer_deploy.quantization.preparation import Prepared

_WEIGHTED = ("conv", graph.DEPTHWISE, "linear")


def quantized(spec: ExportSpec, prepared: "Prepared") -> tuple[fx.GraphModule, Sequence[str]]:
    """Return a spec's model with integers, float32 otherwise, and the plan's tensors that are rounded, in order.

    Raises:
        ToolError: an operator of the plan, or a tensor it reads, is not in the model.
    """
    traced = prepared.traced
    if traced is None:
        traced = graph.trace(spec.model, *spec.preprocessing.shape)
    rewriter = _Rewriter(copy.deepcopy(traced), prepared.plan)
    return rewriter.run(), rewriter.rounded


def clipped(program: Program, prepared: "Prepared", rounded: Sequence[str]) -> dict[str, float]:
    """Return the clipped share (0..1) of each tensor that a converted program quantizes, by its name there.

    Args:
        program: the converted one.
        prepared: the plan.
        rounded: names in the plan, in order.

    Raises:
        ToolError: the program quantizes other tensors, or in another order.
    """
    pairs = [item for item in program.operations if item.type == "quantize"]
    constants = stored(program)
    found = [float(constants[item.inputs[1]]) for item in pairs if item.inputs[1] in constants]
    wanted = [_scale(prepared.plan.ranges[name]) for name in rounded]
    if len(found) != len(wanted) or not np.allclose(found, wanted, rtol=2.0**-10, atol=0):
        raise ToolError(f"{len(pairs)} tensors are quantized where {len(wanted)} are planned", "report this")
    shares = prepared.clipped({name: name for name in rounded})
    return {item.inputs[0]: shares[name] for item, name in zip(pairs, rounded, strict=True) if name in shares}


def _scale(kept: "Range") -> float:
    return max(kept.grid(8)[0], SMALLEST_SCALE)


class _Rewriter:
    """Puts a plan's integers into a traced model, in place.

    Attributes:
        rounded: the plan's tensors that pairs of quantize and dequantize round, in order.
    """

    def __init__(self, module: fx.GraphModule, plan: "Plan") -> None:
        self._module, self._plan = module, plan
        self._pairs: dict[fx.Node, fx.Node] = {}
        self.rounded: list[str] = []

    def run(self) -> fx.GraphModule:
        """Return the model."""
        recipe, planned = self._plan.recipe, self._plan.operators
        weighted = [node for node in self._module.graph.nodes if graph.kind(node) in _WEIGHTED]
        for node in weighted:
            if not recipe.needs_calibration:
                self._compress(node)
            elif node.name in planned:
                given = node.args[0]
                assert isinstance(given, fx.Node)  # noqa: S101 - operators compute from tensors
                node.update_arg(0, self._rounded(given, node))
                self._compress(node)
        missing = sorted(planned.difference(item.name for item in self._module.graph.nodes))
        if missing:
            raise ToolError(f"{len(missing)} of {len(planned)} planned operators are not in the model", "report this")
        self._module.graph.lint()
        self._module.recompile()
        return self._module

    def _rounded(self, given: fx.Node, reader: fx.Node) -> fx.Node:
        """Return a tensor after quantize and dequantize; operators that read the same one share the pair."""
        if given not in self._pairs:
            name = graph.source(given).name
            kept = self._plan.ranges.get(name)
            if kept is None:
                raise ToolError(f"no range is known for {name}, which {reader.name} reads", "report this")
            self.rounded.append(name)
            self._pairs[given] = self._pair(given, kept, reader)
        return self._pairs[given]

    def _pair(self, given: fx.Node, kept: "Range", reader: fx.Node) -> fx.Node:
        zero_point = kept.grid(8)[1]
        dtype, shift = (torch.uint8, 0) if zero_point == 0 else (torch.int8, 128)
        label = f"range_{len(self._pairs)}"
        with self._module.graph.inserting_before(reader):
            size = self._constant(f"{label}_scale", torch.tensor(_scale(kept), dtype=torch.float32))
            zero = self._constant(f"{label}_zero_point", torch.tensor(zero_point - shift, dtype=dtype))
            integers = self._module.graph.call_function(api.operator("quantize"), (given, size, dtype, zero))
            return self._module.graph.call_function(api.operator("dequantize"), (integers, size, zero))

    def _compress(self, node: fx.Node) -> None:
        """Store the weights of an operator in the bits of the recipe."""
        held = node.args[1]
        assert isinstance(held, fx.Node)  # noqa: S101
        if held.op != "get_attr":
            raise ToolError(f"the weights of {node.name} are computed", "report this")
        weight = self._module.get_parameter(str(held.target)).detach()
        recipe = self._plan.recipe
        if recipe.palette and weight.numel() < SMALLEST_PALETTE:
            return
        with self._module.graph.inserting_before(node):
            if recipe.palette:
                table, indices = palette(weight.numpy(), recipe.weight_bits)
                # The converter tells the two apart by these words in their names.
                lut = torch.from_numpy(table).reshape(*[1] * weight.dim(), -1, 1)
                parts = {"indices": torch.from_numpy(indices).reshape(weight.shape), "lut": lut}
            else:
                numbers, scales = _integers(weight.numpy(), recipe.weight_bits)
                parts = {"integers": torch.from_numpy(numbers), "scales": torch.from_numpy(scales)}
            stored = [self._constant(f"{node.name}_{name}", values) for name, values in parts.items()]
            if recipe.palette:
                dense = self._module.graph.call_function(api.operator("lut_to_dense"), (*stored, 0))
            else:
                dense = self._module.graph.call_function(api.operator("constexpr_blockwise_shift_scale"), tuple(stored))
        node.update_arg(1, dense)

    def _constant(self, name: str, values: Tensor) -> fx.Node:
        self._module.register_buffer(name, values)
        return self._module.graph.get_attr(name)


def _integers(weight: NDArray[np.float32], bits: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return symmetric integers and their scales, one for each output channel, of the weight's rank."""
    scales = weight_scales(weight, bits).reshape(-1, *[1] * (weight.ndim - 1))
    largest = 2 ** (bits - 1) - 1
    return np.clip(np.rint(weight / scales), -largest, largest).astype(np.int8), scales
