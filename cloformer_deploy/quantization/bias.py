"""Bias correction: what rounding adds to the mean of a channel is taken off its bias.

Each convolution is looked at alone, on the float model's own activations, so one pass serves all (Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2, the empirical form).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.plan import Plan
from cloformer_deploy.quantization.simulation import Simulation

_CORRECTED = ("conv", graph.DEPTHWISE, "linear")


class _Errors(fx.Interpreter):
    """Runs the float model, and beside each planned convolution its integer form on the same input."""

    def __init__(self, module: fx.GraphModule, plan: Plan) -> None:
        super().__init__(module)
        self._simulation = Simulation(module, plan)
        self._planned = plan.operators
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        exact = super().run_node(n)
        if n.name in self._planned and graph.kind(n) in _CORRECTED:
            self._simulation.env = self.env
            error = self._simulation.computed(n) - exact
            axes = [axis for axis in range(error.dim()) if axis != 1]
            self.sums[n.name] = self.sums.get(n.name, torch.zeros(())) + error.sum(dim=axes, dtype=torch.float64)
            self.counts[n.name] = self.counts.get(n.name, 0) + error.numel() // error.shape[1]
        return exact


def correct_biases(module: fx.GraphModule, plan: Plan, batches: Iterable[Tensor]) -> None:
    """Change the biases of the planned convolutions, in place, by what normalised images (B, 3, H, W) show."""
    errors = _Errors(module, plan)
    with torch.inference_mode():
        for images in batches:
            errors.run(images)
    for node in module.graph.nodes:
        if node.name in errors.sums and len(node.args) > 2 and node.args[2] is not None:
            bias = module.get_parameter(str(node.args[2].target))
            with torch.no_grad():
                bias.sub_((errors.sums[node.name] / errors.counts[node.name]).float())
