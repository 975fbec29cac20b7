"""Upsampling in integers has the range of what it reads."""

import torch
from torch import nn

from cloformer_deploy.networks.heads.layers import Upsample
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.observers import observe
from cloformer_deploy.quantization.plan import plan, quantized_operators, tensors
from cloformer_deploy.quantization.recipes import ALL, CONVOLUTIONS, Recipe
from cloformer_deploy.quantization.simulation import Simulation


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), Upsample(), nn.Conv2d(4, 2, 1)).eval()


def test_in_and_out_have_one_range() -> None:
    traced, images = graph.trace(small(), 3, 32, 32), torch.randn(4, 3, 32, 32)
    recipe = Recipe("w8a8-full", 8, 8, ALL, everywhere=True)
    (resize,) = (node for node in traced.graph.nodes if graph.kind(node) == "resize")
    seen = observe(traced, tensors(traced, recipe, quantized_operators(traced, recipe)), [images])
    chosen = plan(traced, recipe, seen)
    assert resize.name in chosen.operators
    assert chosen.ranges[resize.name] == chosen.ranges[graph.activations(resize)[0].name]
    with torch.inference_mode():
        expected, found = traced(images), Simulation(traced, chosen).run(images)
    assert 0 < (found - expected).norm() < 0.05 * expected.norm()


def test_left_in_float_it_has_a_range_of_its_own() -> None:
    traced, images = graph.trace(small(), 3, 32, 32), torch.randn(4, 3, 32, 32)
    recipe = Recipe("convolutions", 8, 8, CONVOLUTIONS)
    seen = observe(traced, tensors(traced, recipe, quantized_operators(traced, recipe)), [images])
    chosen = plan(traced, recipe, seen)
    (resize,) = (node for node in traced.graph.nodes if graph.kind(node) == "resize")
    assert resize.name not in chosen.operators
    read, made = chosen.ranges[graph.activations(resize)[0].name], chosen.ranges[resize.name]
    assert made.high < read.high  # interpolation reaches no extreme
