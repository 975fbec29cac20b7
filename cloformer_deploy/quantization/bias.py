"""Fit biases into 32 bits, and correct them: the mean error of rounding in a channel is subtracted from its bias.

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

LARGEST_BIAS = 2**30
"""In steps: half of the range of an int32, so that the sum of a convolution can be added."""
_WITH_BIAS = ("conv", graph.DEPTHWISE, "linear")


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
        if n.name in self._planned and graph.kind(n) in _WITH_BIAS:
            self._simulation.env = self.env
            found = self._sum_of_pointwise(n) if _is_pointwise(n, exact) else self._sum_of_errors(n, exact)
            self.sums[n.name] = self.sums.get(n.name, torch.zeros(())) + found
            self.counts[n.name] = self.counts.get(n.name, 0) + exact.numel() // exact.shape[1]
        return exact

    def _sum_of_errors(self, n: fx.Node, exact: Tensor) -> Tensor:
        """Return the sum of the errors of each output channel, float64."""
        return _sums(self._simulation.computed(n) - exact)

    def _sum_of_pointwise(self, n: fx.Node) -> Tensor:
        """Return the same of a 1x1 convolution, which is linear: it is computed from the sums of its input channels."""
        (rounded, weight, *_), _ = self._simulation.rounded(n)
        exact, exact_weight = (self.env[item] for item in n.all_input_nodes[:2])
        found: Tensor = weight.flatten(1).double() @ _sums(rounded) - exact_weight.flatten(1).double() @ _sums(exact)
        return found


def _sums(values: Tensor) -> Tensor:
    """Return the sum of each channel of values (B, C, ...), float64."""
    return values.sum(dim=[axis for axis in range(values.dim()) if axis != 1]).double()


def _is_pointwise(node: fx.Node, output: Tensor) -> bool:
    """Tell whether a node is a convolution that computes each pixel from the same pixel of its input alone."""
    if graph.kind(node) != "conv":
        return False
    image, weight = (item.meta["val"] for item in node.all_input_nodes[:2])
    return bool(weight.shape[2:].numel() == 1 and image.shape[2:] == output.shape[2:])


def hold_biases(module: fx.GraphModule, plan: Plan) -> None:
    """Raise the scale of channels whose weights are 0, or nearly, in place, until their biases fit 32 bits.

    A bias has the steps of the input times those of its channel's weights. Channels that training gave up have a bias
    and next to no weights: one weight of theirs becomes as large as it takes, which moves what they write by less than
    `largest level` * 2^activation bits / `LARGEST_BIAS` of the bias: 3e-5 in 8 bits.
    """
    for node in module.graph.nodes:
        if node.name not in plan.operators or graph.kind(node) not in _WITH_BIAS or _bias(node) is None:
            continue
        kept = plan.ranges[graph.source(graph.activations(node)[0]).name]
        if kept.low == kept.high:  # an input that is always 0 needs no weights
            continue
        step, _ = kept.grid(plan.activation_bits)
        bias = module.get_parameter(str(_bias(node)))
        rows = module.get_parameter(str(node.args[1].target)).flatten(1)
        with torch.no_grad():
            least = (2 ** (plan.recipe.weight_bits - 1) - 1) * bias.abs() / (step * LARGEST_BIAS)
            short = rows.abs().amax(dim=1) < least
            rows[short, 0] = least[short]


def _bias(node: fx.Node) -> str | None:
    """Return the name of a convolution's bias parameter; None without one."""
    found = node.args[2] if len(node.args) > 2 else None
    return str(found.target) if isinstance(found, fx.Node) else None


def correct_biases(module: fx.GraphModule, plan: Plan, batches: Iterable[Tensor]) -> None:
    """Correct the biases of the planned convolutions, in place, on batches of normalized images (B, 3, H, W)."""
    errors = _Errors(module, plan)
    with torch.inference_mode():
        for images in batches:
            errors.run(images)
    for node in module.graph.nodes:
        name = _bias(node)
        if node.name in errors.sums and name is not None:
            with torch.no_grad():
                module.get_parameter(name).sub_((errors.sums[node.name] / errors.counts[node.name]).float())
