"""The quantized model in PyTorch: float32 arithmetic on the values that integers can hold.

Runtimes compute convolutions in 32-bit integers and round once, so this differs from them by single steps of single
outputs. Recipes are judged by it before a file is written; files themselves are verified on their runtimes.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.observers import Range
from cloformer_deploy.quantization.plan import Plan, sigmoid_range, weight_scales


def on_grid(values: Tensor, kept: Range, bits: int) -> Tensor:
    """Return values of any shape, rounded to the 2^bits levels of a range, one of which is 0."""
    scale, zero_point = kept.grid(bits)
    # The steps of torch.fake_quantize_per_tensor_affine, which also makes a mask for gradients, and takes ten times
    # as long.
    reciprocal = float(np.float32(1) / np.float32(scale))
    levels = (values * reciprocal).round_().clamp_(-zero_point, 2**bits - 1 - zero_point)
    return levels.mul_(float(np.float32(scale)))


def rounded_weights(weight: Tensor, bits: int) -> Tensor:
    """Return weights (outputs, ...), rounded to symmetric grids with one scale per output channel."""
    levels = 2 ** (bits - 1) - 1
    scales = torch.from_numpy(weight_scales(weight.detach().numpy(), bits)).reshape(-1, *[1] * (weight.dim() - 1))
    return torch.round(weight / scales).clamp(-levels, levels) * scales


class Simulation(fx.Interpreter):
    """Runs a traced model (see `graph.trace`) as a plan's integers would.

    Raises:
        ValueError: the plan's recipe leaves activations float.
    """

    def __init__(self, module: fx.GraphModule, plan: Plan) -> None:
        super().__init__(module)
        self.plan = plan
        self._bits = plan.activation_bits
        self._weights: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """See `fx.Interpreter.run_node`."""
        if n.name not in self.plan.operators or graph.kind(n) == "layout":
            return super().run_node(n)
        value = super().run_node(n) if graph.is_fused(n) else self.computed(n)
        return self._round(value, n) if graph.result(n) is n and self.plan.recipe.rounds_outputs else value

    def computed(self, n: fx.Node) -> Any:
        """Compute a planned operator on its rounded inputs, before its output is rounded."""
        args, kwargs = self.rounded(n)
        if graph.kind(n) == "silu":
            (value,) = args
            return value * on_grid(torch.sigmoid(value), sigmoid_range(self._bits), self._bits)
        return self.call_function(n.target, tuple(args), kwargs)

    def rounded(self, n: fx.Node) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a planned operator, with its activations and weights rounded."""
        activations = graph.activations(n)

        def given(node: fx.Node) -> Any:
            value = self.env[node]
            return self._round(value, node) if node in activations else value

        args: list[Any] = list(map_arg(n.args, given))
        if graph.kind(n) in ("conv", graph.DEPTHWISE, "linear"):
            args[1] = self._weight(n, args[1])
        return args, dict(map_arg(n.kwargs, given))

    def _round(self, value: Tensor, node: fx.Node) -> Tensor:
        return on_grid(value, self.plan.ranges[graph.source(node).name], self._bits)

    def _weight(self, n: fx.Node, weight: Tensor) -> Tensor:
        if n.name not in self._weights:
            self._weights[n.name] = rounded_weights(weight, self.plan.recipe.weight_bits)
        return self._weights[n.name]
