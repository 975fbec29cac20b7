"""The quantised model in PyTorch: float32 arithmetic on the values that integers can hold.

Runtimes compute convolutions in 32-bit integers and round once, so this differs from them by single steps of single
outputs. It is what recipes are judged by before a file is written; files themselves are verified on their runtimes.
"""

from typing import Any

import torch
from torch import Tensor, fx

from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.observers import Range
from cloformer_deploy.quantization.plan import Plan

SIGMOID_RANGE = Range(0.0, 255 / 256)


def on_grid(values: Tensor, kept: Range, bits: int) -> Tensor:
    """Values of any shape, rounded to the 2^bits levels of a range whose zero is one of them."""
    steps = 2**bits - 1
    scale = (kept.high - kept.low) / steps
    if scale == 0:
        return torch.zeros_like(values)
    zero_point = min(max(round(-kept.low / scale), 0), steps)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero_point, 0, steps)


def rounded_weights(weight: Tensor, bits: int) -> Tensor:
    """Weights (outputs, ...) on symmetric grids of one scale an output channel, the largest being the last level."""
    levels = 2 ** (bits - 1) - 1
    scale = weight.detach().flatten(1).abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / levels
    scale = scale.reshape(-1, *[1] * (weight.dim() - 1))
    return torch.round(weight / scale).clamp(-levels, levels) * scale


class Simulation(fx.Interpreter):
    """Runs a traced model (see `graph.trace`) as a plan's integers would."""

    def __init__(self, module: fx.GraphModule, plan: Plan) -> None:
        super().__init__(module)
        self.plan = plan
        self._bits = plan.recipe.activation_bits
        # Behind which nodes rounding comes: a ReLU's conv is rounded behind the ReLU.
        self._rounded = {graph.result(node).name for node in module.graph.nodes if node.name in plan.operators}
        self._weights: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """See `fx.Interpreter.run_node`."""
        if n.name not in self.plan.operators and n.name not in self._rounded:
            return super().run_node(n)
        if graph.kind(n) == "layout":
            return super().run_node(n)
        value = self._computed(n) if n.name in self.plan.operators else super().run_node(n)
        return self._round(value, n) if n.name in self._rounded else value

    def _computed(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        nodes = graph.activations(n)
        if graph.kind(n) == "concat":
            return torch.cat([self._round(value, node) for value, node in zip(args[0], nodes, strict=True)], *args[1:])
        rounded = [self._round(value, node) if node in nodes else value for value, node in zip(args, n.args, strict=True)]
        if graph.kind(n) in ("conv", graph.DEPTHWISE, "linear"):
            rounded[1] = self._weight(n, args[1])
        if graph.kind(n) == "silu":
            value = rounded[0]
            return value * self._grid(torch.sigmoid(value), SIGMOID_RANGE)
        return n.target(*rounded, **kwargs)

    def _round(self, value: Tensor, node: fx.Node) -> Tensor:
        return self._grid(value, self.plan.ranges[graph.source(node).name])

    def _grid(self, value: Tensor, kept: Range) -> Tensor:
        return value if self._bits is None else on_grid(value, kept, self._bits)

    def _weight(self, n: fx.Node, weight: Tensor) -> Tensor:
        if n.name not in self._weights:
            self._weights[n.name] = rounded_weights(weight, self.plan.recipe.weight_bits)
        return self._weights[n.name]
