"""A tensor is known by its numbers, in whatever order; one that is a little different is another."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cloformer_deploy.backends.registry import BACKENDS, target_of
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.plan import quantized_operators, tensors
from cloformer_deploy.quantization.tensor_matching import by_structure, fingerprint, fingerprints, identify
from tests.quantization.small_models import Traced, noise, traced, values_of

pytestmark = pytest.mark.integration

SEEDS = st.integers(0, 2**31)


@settings(max_examples=30)
@given(SEEDS, st.sampled_from([(6,), (3, 8), (2, 3, 4, 5)]))
def test_order_and_shape_do_not_matter(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape).astype(np.float32)
    known = {"this": fingerprint(values), "other": fingerprint(rng.normal(size=shape))}
    moved = rng.permutation(values.ravel())
    assert identify(known, [("moved", moved), ("rounded", moved * np.float32(1 + 1e-6))]) == {
        "moved": "this",
        "rounded": "this",
    }


@settings(max_examples=30)
@given(SEEDS)
def test_what_differs_by_a_hundredth_is_another_tensor(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=500).astype(np.float32)
    known = {"this": fingerprint(values)}
    shifted = values + 0.01 * np.abs(values).mean()
    clipped = np.clip(values, -0.99 * np.abs(values).max(), 0.99 * np.abs(values).max())
    others = [1.01 * values, shifted, clipped, -values, np.append(values, 0)]
    assert identify(known, [(str(index), other) for index, other in enumerate(others)]) == {}


def test_constant_and_empty_tensors_are_no_trouble() -> None:
    known = {"zeros": fingerprint(np.zeros(4)), "ones": fingerprint(np.ones(4))}
    found = [("a", np.zeros((2, 2))), ("b", np.ones((4, 1))), ("c", np.zeros(3)), ("d", np.zeros((0, 3)))]
    assert identify(known, found) == {"a": "zeros", "b": "ones"}


def test_every_operator_of_the_mix_is_found_again(onnx_cpu: Traced) -> None:
    check_planned_operators(onnx_cpu, "onnx", "cpu")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("format_name", "target"), [(name, target) for name, item in BACKENDS.items() for target in item.targets]
)
def test_every_planned_operator_is_found_again(format_name: str, target: str) -> None:
    check_planned_operators(traced(format_name, target, seed=1), format_name, target)


def check_planned_operators(small: Traced, format_name: str, target: str) -> None:
    """The tensors around planned operators, transposed and in another order, are those of the plan."""
    recipe = target_of(format_name, target).recipes["int8"]
    planned = quantized_operators(small.module, recipe)
    images = noise(3, 2)
    computed = values_of(small.module, images)
    wanted = sorted({*tensors(small.module, recipe, planned), *(small.source(name) for name in planned)})
    moved = [(name, np.moveaxis(computed[name].numpy(), 1, -1)) for name in reversed(wanted)]
    found = identify(fingerprints(small.module, images), moved)
    assert set(found) == set(wanted)
    # Two tensors of the same numbers have the same range: which of them is meant makes no difference.
    for name, node in found.items():
        np.testing.assert_allclose(
            np.sort(computed[name].numpy(), axis=None), np.sort(computed[node].numpy(), axis=None), rtol=1e-3, atol=1e-6
        )


class Sliced(nn.Module):
    """A convolution whose result is read through a slice that leaves nothing out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(image)[..., 0:8] - 0.5)


def test_a_slice_of_everything_is_its_source() -> None:
    """Traced as an alias. As a tensor of its own it took the place of the convolution, which then stayed float."""
    module = graph.trace(Sliced().eval(), 3, 8, 8)
    (conv,) = (node.name for node in module.graph.nodes if graph.kind(node) == "conv")
    assert any(node.target is graph.ATEN.alias.default for node in module.graph.nodes)
    found = fingerprints(module, torch.rand(2, 3, 8, 8))
    assert {name for name, mine in found.items() if mine[0] == 2 * 4 * 64} == {conv, "sub", "relu"}


class Centered(nn.Module):
    """The mean of what has none, which is rounding errors alone."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        centered = image - image.mean(dim=(1, 2, 3), keepdim=True)
        return centered - centered.mean(dim=(2, 3), keepdim=True).mean(dim=1, keepdim=True)


def test_rounding_errors_are_matched_by_what_they_are_computed_from() -> None:
    module = graph.trace(Centered().eval(), 3, 8, 8)
    images = torch.rand(2, 3, 8, 8)
    known = fingerprints(module, images)
    nodes = [node for node in module.graph.nodes if node.name in known and node.op == "call_function"]
    noise_node = nodes[-2].name
    sizes = {f"f{index}": int(known[node.name][0]) for index, node in enumerate(nodes)}
    names = {node.name: f"f{index}" for index, node in enumerate(nodes)}
    inputs = {
        names[node.name]: [names[item.name] for item in node.all_input_nodes if item.name in names] for node in nodes
    }
    by_value = {names[node.name]: node.name for node in nodes if node.name != noise_node}
    assert by_structure(module, known, by_value, sizes, inputs) == {**by_value, names[noise_node]: noise_node}
    assert by_structure(module, known, by_value, sizes, {}) == by_value
    wrong = {**sizes, names[noise_node]: 7}
    assert by_structure(module, known, by_value, wrong, inputs) == by_value
