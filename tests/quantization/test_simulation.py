"""The simulation computes the float model on values that integers can hold, and rounds nothing else."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, fx

from cloformer_deploy.backends.registry import target_of
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.observers import Range
from cloformer_deploy.quantization.plan import Plan, weight_scales
from cloformer_deploy.quantization.recipes import Recipe
from cloformer_deploy.quantization.simulation import Simulation, on_grid, rounded_weights
from tests.quantization.small_models import Traced, noise, values_of

pytestmark = pytest.mark.integration

MIX = target_of("onnx", "cpu").recipes["int8"]
FULL = target_of("tflite", "ethos-u").recipes["int8"]
CONV = target_of("coreml", "ane").recipes["int8"]


class Keeper(Simulation):
    """Keeps every tensor."""

    def __init__(self, module: fx.GraphModule, plan: Plan) -> None:
        super().__init__(module, plan)
        self.kept: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.kept[n.name] = value
        return value


def simulated(small: Traced, plan: Plan, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    runner = Keeper(small.module, plan)
    with torch.inference_mode():
        return runner.run(images), runner.kept


def levels(values: Tensor) -> Tensor:
    """The values that occur."""
    return torch.from_numpy(np.unique(values.numpy()))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_values_and_weights_come_to_lie_on_their_grids() -> None:
    values = torch.tensor([-9.0, -1.0, -0.004, 0.0, 0.5, 2.0, 9.0])
    kept = Range(-1.0, 1.55)  # steps of 0.01
    np.testing.assert_allclose(on_grid(values, kept, 8).numpy(), [-1, -1, 0, 0, 0.5, 1.55, 1.55], atol=1e-6)
    weight = torch.tensor([[1.0, -0.5, 0.0], [0.0, 0.0, 0.0], [-254.0, 1.0, 3.1]])
    expected = torch.tensor([[1, -64 / 127, 0], [0, 0, 0], [-254, 0, 4]])
    torch.testing.assert_close(rounded_weights(weight, 8), expected)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("low", "high"), [(-3.1, 5.7), (0.0, 6.0), (-1e-3, 2e-3), (-45.01, 45.01), (0.0, 0.0)])
def test_values_are_rounded_as_torch_rounds_them(low: float, high: float, bits: int) -> None:
    kept = Range(low, high)
    values = torch.randn(10_000, generator=torch.manual_seed(0)) * max(high, 1e-3)
    expected = torch.fake_quantize_per_tensor_affine(values, *kept.grid(bits), 0, 2**bits - 1)
    assert torch.equal(on_grid(values, kept, bits), expected)


@pytest.mark.parametrize("recipe", [MIX, CONV], ids=lambda recipe: recipe.name)
def test_many_bits_give_the_float_model(onnx_cpu: Traced, recipe: Recipe) -> None:
    images = noise(0)
    wide = dataclasses.replace(recipe, activation_bits=16, weight_bits=16)
    logits, _ = simulated(onnx_cpu, onnx_cpu.plan(wide, images), images)
    error = relative_error(logits, values_of(onnx_cpu.module, images)["linear"])
    assert 0 < error <= 1e-3


def check_grids(small: Traced, plan: Plan, images: Tensor) -> None:
    """Check that planned operators write at most 256 values, and that layout operators do not change them."""
    _, kept = simulated(small, plan, images)
    written = {graph.result(node).name for node in small.operators() if node.name in plan.operators}
    assert written
    for name in written:
        scale, _ = plan.ranges[name].grid(8)
        assert len(levels(kept[name])) <= 256
        steps = kept[name] / scale
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-2)
    moved = [node for node in small.nodes("layout") if node.name in kept and small.source(node.name) in written]
    assert moved
    for node in moved:
        allowed = torch.cat([levels(kept[small.source(node.name)]), torch.zeros(1)])
        assert torch.isin(levels(kept[node.name]), allowed).all()


def test_eight_bits_write_at_most_256_values(onnx_cpu: Traced) -> None:
    images = noise(0)
    check_grids(onnx_cpu, onnx_cpu.plan(MIX, images), images)


@pytest.mark.integration
def test_eight_bits_everywhere(ethos_u: Traced) -> None:
    images = noise(0)
    plan = ethos_u.plan(FULL, images)
    check_grids(ethos_u, plan, images)
    wide = dataclasses.replace(FULL, activation_bits=16, weight_bits=16)
    expected = values_of(ethos_u.module, images)["linear"]
    errors = [
        relative_error(simulated(ethos_u, ethos_u.plan(each, images), images)[0], expected) for each in (FULL, wide)
    ]
    assert 1e-3 < errors[0] < 0.2
    assert errors[1] <= 2e-3


def test_what_a_recipe_does_not_write_stays_float(onnx_cpu: Traced) -> None:
    images = noise(0)
    plan = onnx_cpu.plan(CONV, images)
    _, kept = simulated(onnx_cpu, plan, images)
    conv = next(node for node in onnx_cpu.nodes("conv") if node.name in plan.operators)
    assert len(levels(kept[conv.name])) > 256


def test_a_convolution_is_computed_from_what_its_input_and_weights_round_to(onnx_cpu: Traced) -> None:
    images = noise(0)
    plan = onnx_cpu.plan(MIX, images)
    _, kept = simulated(onnx_cpu, plan, images)
    conv = next(node for node in onnx_cpu.nodes("conv") if "qkvs" in graph.path(node))
    (given,) = graph.activations(conv)
    weight, bias = onnx_cpu.parameters(conv).values()
    scale, zero_point = plan.ranges[onnx_cpu.source(given.name)].grid(8)
    integers = torch.clamp(torch.round(kept[given.name] / scale) + zero_point, 0, 255) - zero_point
    scales = torch.from_numpy(weight_scales(weight.detach().numpy(), 8)).reshape(-1, 1, 1, 1)
    product = torch.nn.functional.conv2d(integers.double(), torch.round(weight / scales).double())
    exact = product * scale * scales.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)
    step = plan.ranges[conv.name].grid(8)[0]
    off = (kept[conv.name] - on_grid(exact.float(), plan.ranges[conv.name], 8)).abs() / step
    # float32 sums may fall on the other side of a half.
    assert off.max() <= 1.01
    assert (off > 0.01).float().mean() < 1e-3


def test_the_original_weights_are_left_alone(onnx_cpu: Traced) -> None:
    images = noise(0)
    before = values_of(onnx_cpu.module, images)["linear"]
    simulated(onnx_cpu, onnx_cpu.plan(MIX, images), images)
    assert torch.equal(values_of(onnx_cpu.module, images)["linear"], before)
