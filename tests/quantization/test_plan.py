"""The operators that a recipe quantizes, the ranges around them, and the scales of weights."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloformer_deploy.backends.registry import target_of
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.observers import Range, percentile
from cloformer_deploy.quantization.plan import (
    WIDENED,
    plan,
    quantized_operators,
    sigmoid_range,
    tanh_range,
    tensors,
    weight_scales,
)
from tests.quantization.small_models import Traced, noise, observed_by

pytestmark = pytest.mark.integration

MIX = target_of("onnx", "cpu").recipes["int8"]
CONV = target_of("coreml", "ane").recipes["int8"]
FULL = target_of("tflite", "ethos-u").recipes["int8"]


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.sampled_from([4, 8]), st.sampled_from([(3, 4), (5, 2, 3, 3)]))
def test_the_largest_weight_of_a_channel_is_the_last_level(seed: int, bits: int, shape: tuple[int, ...]) -> None:
    weight = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    weight[1] = 0
    levels = weight / weight_scales(weight, bits).reshape(-1, *[1] * (len(shape) - 1))
    largest = np.abs(levels.reshape(len(weight), -1)).max(axis=1)
    np.testing.assert_allclose(largest, np.where(np.arange(len(weight)) == 1, 0, 2 ** (bits - 1) - 1), rtol=1e-6)


def test_normalizations_and_global_attention_stay_float_in_the_mix(onnx_cpu: Traced) -> None:
    planned = quantized_operators(onnx_cpu.module, MIX)
    inside = [node for node in onnx_cpu.operators() if graph.is_normalization(node) or graph.is_attention(node)]
    assert {graph.kind(node) for node in inside} >= {"matmul", "layout"}
    assert planned.isdisjoint(node.name for node in inside)
    assert planned >= {node.name for kind in ("silu", "tanh") for node in onnx_cpu.nodes(kind)}


def test_modules_that_a_recipe_leaves_float_stay_float(onnx_cpu: Traced) -> None:
    planned = quantized_operators(onnx_cpu.module, MIX)
    paths = {graph.path(node): node.name in planned for node in onnx_cpu.nodes("conv") + onnx_cpu.nodes("depthwise")}
    assert {path for path, taken in paths.items() if not taken} == {
        "patch_embed.conv1.conv.0",
        "patch_embed.layernorm.1",
        "layers.0.blocks.0.mlp.dwconv",
        "layers.1.blocks.0.mlp.dwconv",
    }


def test_further_modules_can_be_left_float(onnx_cpu: Traced) -> None:
    planned = quantized_operators(onnx_cpu.module, MIX)
    fewer = quantized_operators(onnx_cpu.module, MIX, [r"layers\.0\.blocks\.0\."])
    block = {node.name for node in onnx_cpu.operators() if graph.path(node).startswith("layers.0.blocks.0.")}
    assert planned & block
    assert fewer == planned - block


def test_a_relu_belongs_to_its_convolution(onnx_cpu: Traced) -> None:
    planned = quantized_operators(onnx_cpu.module, MIX)
    relus = onnx_cpu.nodes("relu")
    assert len(relus) == 4
    for relu in relus:
        (conv,) = graph.activations(relu)
        assert graph.result(conv) is relu
        assert (relu.name in planned) == (conv.name in planned)
    # What lies between the two is rounded nowhere.
    read = tensors(onnx_cpu.module, MIX, planned)
    assert not any(graph.activations(relu)[0].name in read for relu in relus)


def test_the_ranges_are_those_of_what_is_read_and_written(onnx_cpu: Traced) -> None:
    images = noise(0)
    seen = observed_by(onnx_cpu, MIX, images)
    made = plan(onnx_cpu.module, MIX, seen)
    for node in onnx_cpu.operators():
        if node.name in made.operators and graph.kind(node) != "relu":
            around = {graph.source(item).name for item in (*graph.activations(node), graph.result(node))}
            assert around <= made.ranges.keys()
    for name, kept in made.ranges.items():
        source = onnx_cpu.source(name)
        assert kept == made.ranges[source]
        tanh = source in {node.name for node in onnx_cpu.nodes("tanh")}
        assert kept == (Range(-1, 127 / 128) if tanh else percentile(seen[ruling(onnx_cpu, source)]))


def ruling(traced: Traced, name: str) -> str:
    """Return the node whose range a tensor has: itself, or a concatenation that alone reads it."""
    (node,) = (node for node in traced.operators() if node.name == name)
    found = graph.readers(node)
    return found.pop().name if [graph.kind(item) for item in found] == ["concat"] else name


def test_what_only_a_concatenation_reads_is_rounded_once(onnx_cpu: Traced) -> None:
    made = plan(onnx_cpu.module, MIX, observed_by(onnx_cpu, MIX, noise(0)))
    joined = [node for node in onnx_cpu.nodes("concat") if node.name in made.operators]
    assert joined
    for node in joined:
        for item in graph.activations(node):
            assert graph.readers(graph.source(item)) == {node}
            assert made.ranges[item.name] == made.ranges[graph.source(item).name] == made.ranges[node.name]


def test_what_writes_floats_has_no_range_of_its_own(onnx_cpu: Traced) -> None:
    planned = quantized_operators(onnx_cpu.module, CONV)
    read = {graph.source(item).name for conv in onnx_cpu.nodes("conv") for item in graph.activations(conv)}
    read |= {graph.source(item).name for conv in onnx_cpu.nodes("depthwise") for item in graph.activations(conv)}
    assert set(tensors(onnx_cpu.module, CONV, planned)) <= read


def test_weights_alone_need_no_plan(onnx_cpu: Traced) -> None:
    made = plan(onnx_cpu.module, target_of("onnx", "cpu").recipes["w8"], {})
    assert (made.operators, made.ranges) == (frozenset(), {})
    with pytest.raises(ValueError, match="w8 leaves activations float"):
        made.activation_bits  # noqa: B018


def test_sixteen_bits_clip_nothing(onnx_cpu: Traced) -> None:
    recipe = dataclasses.replace(MIX, activation_bits=16)
    seen = observed_by(onnx_cpu, recipe, noise(0))
    made = plan(onnx_cpu.module, recipe, seen)
    for name, histogram in seen.items():
        if onnx_cpu.kind_of(name) != "tanh":
            around = seen[ruling(onnx_cpu, name)]
            assert made.ranges[name] == Range(WIDENED * around.low, WIDENED * around.high)
            assert around.low <= histogram.low
            assert around.high >= histogram.high


@pytest.mark.parametrize("bits", [8, 16])
def test_steps_of_tanh_and_sigmoid_are_powers_of_two(bits: int) -> None:
    assert tanh_range(bits).grid(bits) == (2.0 ** (1 - bits), 2 ** (bits - 1))
    assert sigmoid_range(bits).grid(bits) == (2.0**-bits, 0)


def test_an_npu_computes_everything_in_integers(ethos_u: Traced) -> None:
    planned = quantized_operators(ethos_u.module, FULL)
    floats = [node for node in ethos_u.operators() if node.name not in planned]
    assert {graph.kind(node) for node in floats} == {"layout", "other"}
    # The batch, which torch.export counts.
    assert {str(node.target) for node in floats if graph.kind(node) == "other"} == {"aten.sym_size.int"}
