"""Channels are equalized exactly, biases take back what rounding adds, and both come before the plan."""

from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cloformer_deploy.backends.registry import lower, target_of
from cloformer_deploy.data import Batch, Preprocessing, probe_images
from cloformer_deploy.lowering.batch_norm import fold_batch_norm
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.networks.cloformer.body import ConvFFN
from cloformer_deploy.progress import Silent
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.bias import LARGEST_BIAS, correct_biases, hold_biases
from cloformer_deploy.quantization.equalization import MAX_FACTOR, equalize
from cloformer_deploy.quantization.plan import Plan, weight_scales
from cloformer_deploy.quantization.preparation import CalibrationBatches, observed, prepared, weights_only
from cloformer_deploy.quantization.simulation import Simulation
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from cloformer_deploy.weights.zoo import bundled_checkpoints
from tests.quantization.small_models import SIDE, Traced, noise, small_model, traced, values_of

CPU = target_of("onnx", "cpu")
MIX = CPU.recipes["int8"]
CLOFORMER = NETWORKS["cloformer"]


def depthwise_outputs(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The largest magnitude of each channel that a depthwise convolution of a block writes."""
    found: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name: found.update({name: output.abs().amax(dim=(0, 2, 3))})
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1
    ]
    with torch.inference_mode():
        model(images)
    for handle in handles:
        handle.remove()
    return found


def check_equalized(model: CloFormer, images: Tensor) -> None:
    fold_batch_norm(model)
    with torch.inference_mode():
        before = model(images)
    largest = depthwise_outputs(model, images)
    equalize(CLOFORMER, model, [images])
    with torch.inference_mode():
        after = model(images)
    assert (after - before).abs().max() <= 1e-4 * before.abs().max()
    bound = MAX_FACTOR**1.5  # q and k have the root of one factor, times another
    for name, now in depthwise_outputs(model, images).items():
        used = largest[name] > 1e-6
        factors = now[used] / largest[name][used]
        assert factors.min() >= 0.99 / bound
        assert factors.max() <= 1.01 * bound
        assert factors.max() > 1.5 * factors.min(), name


@pytest.mark.parametrize("seed", range(3))
def test_equalizing_changes_channels_and_no_logit(seed: int) -> None:
    check_equalized(small_model(seed), noise(seed))


def test_keys_are_centered_and_as_large_as_values_and_even_with_queries() -> None:
    model = small_model(0)
    fold_batch_norm(model)
    with torch.no_grad():
        for block in model.blocks:  # else a channel would gain more than `MAX_FACTOR`
            block.attn.global_kv.weight.chunk(2)[0].mul_(20)
    equalize(CLOFORMER, model, [noise(0)])
    for block in model.blocks:
        seen: list[Tensor] = []
        for conv in (block.attn.global_q, block.attn.global_kv):
            conv.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output))
        with torch.inference_mode():
            model(noise(0))
        keys, values = seen[1].chunk(2, dim=1)
        low, high = keys.amin(dim=(0, 2, 3)), keys.amax(dim=(0, 2, 3))
        torch.testing.assert_close(-low, high, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(high.max(), values.abs().max(), rtol=1e-3, atol=0)
        queries = seen[0].abs().amax(dim=(0, 2, 3))
        torch.testing.assert_close(queries / queries.max(), high / high.max(), rtol=1e-3, atol=0)


@pytest.mark.integration
def test_equalizing_trained_weights_changes_no_logit() -> None:
    model = cast(CloFormer, build_model(load_checkpoint(bundled_checkpoints()["xxs-imagenette"])).eval())
    preprocessing = Preprocessing.published(64, 64)
    check_equalized(model, torch.from_numpy(preprocessing.normalize(probe_images(2, preprocessing))))


def test_a_channel_that_is_always_zero_stays_finite() -> None:
    model = small_model(0)
    fold_batch_norm(model)
    block = next(model.blocks)
    with torch.no_grad():
        ffn = cast(ConvFFN, block.mlp)
        for conv in (ffn.dwconv, block.attn.convs[0], block.attn.qkvs[0]):
            for parameter in conv.parameters():
                parameter[0] = 0
        ffn.fc2.weight[:, 1] = 0
        before = model(noise(0))
        equalize(CLOFORMER, model, [noise(0)])
        torch.testing.assert_close(model(noise(0)), before, rtol=0, atol=1e-4)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def mean_errors(small: Traced, plan: Plan, floats: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return each planned convolution's mean error per channel, of its integer form on the float model's input."""
    simulation = Simulation(small.module, plan)
    found = {}
    with torch.inference_mode():
        for node in [*small.nodes("conv"), *small.nodes("depthwise")]:
            if node.name in plan.operators:
                simulation.env = dict(small.parameters(node))
                simulation.env.update({item: floats[item.name] for item in graph.activations(node)})
                error = simulation.computed(node) - floats[node.name]
                found[node.name] = error.double().mean(dim=(0, 2, 3))
    return found


@pytest.mark.integration
def test_corrected_biases_take_back_the_mean_error() -> None:
    small = traced("onnx", "cpu")
    images = noise(0, 8)
    plan = small.plan(MIX, images)
    floats = values_of(small.module, images)
    before = mean_errors(small, plan, floats)
    correct_biases(small.module, plan, [images[:3], images[3:]])
    after = mean_errors(small, plan, floats)
    assert len(before) > 10
    for name, error in before.items():
        assert after[name].abs().max() <= error.abs().max() / 5, name


@pytest.mark.integration
def test_the_bias_of_a_channel_without_weights_fits_32_bits() -> None:
    small = traced("onnx", "cpu")
    images = noise(0)
    conv = next(node for node in small.nodes("conv") if "qkvs" in graph.path(node))
    weight, bias = small.parameters(conv).values()
    with torch.no_grad():
        weight[0] = 0
        weight[1] = 1e-12
        bias[:2] = torch.tensor([0.5, -2.0])
    plan = small.plan(MIX, images)
    before, kept = weight.detach().clone(), values_of(small.module, images)[conv.name]
    hold_biases(small.module, plan)
    assert torch.equal(weight[2:], before[2:])
    step = plan.ranges[small.source(graph.activations(conv)[0].name)].grid(8)[0]
    steps = weight_scales(weight.detach().numpy(), 8) * step
    assert np.abs(bias.detach().numpy() / steps).max() <= 1.001 * LARGEST_BIAS
    torch.testing.assert_close(values_of(small.module, images)[conv.name], kept, rtol=1e-4, atol=1e-4)


class Noise:
    """Images of noise, as a calibration set gives them."""

    name = "noise"
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return 20

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        pixels = np.random.default_rng(0).integers(0, 256, (len(self), 3, SIDE, SIDE), np.uint8)
        for first in range(0, len(self), size):
            yield Batch(pixels[first : first + size])


class Told(Silent):
    """Keeps what it is told of steps and their progress, in order."""

    def __init__(self) -> None:
        self.told: list[str | tuple[int, int]] = []

    def step(self, text: str) -> None:
        self.told.append(text)

    def advance(self, done: int, total: int) -> None:
        self.told.append((done, total))


@pytest.mark.integration
def test_a_prepared_model_is_the_reference_but_for_its_biases() -> None:
    reference = small_model(4)
    untouched = {name: value.clone() for name, value in reference.state_dict().items()}
    progress = Told()
    images = CalibrationBatches(Noise(), Preprocessing.published(SIDE, SIDE), "onnx int8", progress)
    base = observed(reference, CLOFORMER, CPU.integer_rewrites, MIX, images)
    made = prepared(base, images)
    assert progress.told == [
        told
        for step in ("Equalizing channels", "Measuring ranges", "Correcting biases")
        for told in (f"{step} for onnx int8", *((done, 20) for done in range(4, 21, 4)))
    ]
    assert all(torch.equal(value, untouched[name]) for name, value in reference.state_dict().items())
    x = noise(5)
    assert made.traced is not None
    with torch.inference_mode():
        expected = reference(x)
        torch.testing.assert_close(base.model(x), expected, rtol=0, atol=1e-4)
        assert 0 < (made.model(x) - expected).norm() < 0.1 * expected.norm()
        error = (Simulation(made.traced, made.plan).run(x) - expected).norm() / expected.norm()
        assert 1e-3 < error < 0.2
        # The graph has the model's own parameters: what is corrected in one is in the other.
        torch.testing.assert_close(made.traced(x), made.model(x), rtol=0, atol=1e-5)
    left = prepared(base, images, [r"layers\.1\."])
    assert left.plan.operators < made.plan.operators
    name = next(iter(made.seen))
    assert made.clipped({"in the file": name, "another": "nowhere"}) == {
        "in the file": made.seen[name].clipped(made.plan.ranges[name])
    }


@pytest.mark.integration
def test_weights_alone_leave_the_lowered_model_as_it_is() -> None:
    reference = small_model(6)
    made = weights_only(lower(reference, "onnx", "cpu"), CPU.recipes["w8"])
    with torch.inference_mode():
        torch.testing.assert_close(made.model(noise(0)), reference(noise(0)), rtol=0, atol=1e-5)
    assert (made.traced, made.plan.operators, made.plan.ranges, made.seen) == (None, frozenset(), {}, {})
    assert made.matches(noise(0), iter(())) == {}
