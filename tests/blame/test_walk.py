"""Test that errors are attributed to the node that adds them, and that their effect on the outputs is measured."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cloformer_deploy.blame.layers import group
from cloformer_deploy.blame.node_errors import Injection, Walk, float_values, outputs_of
from cloformer_deploy.blame.ranking import OutputNoise, faulty_nodes, layers, ranked
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.quantization import graph
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.tasks.distances import SQNR_CEILING_DB, centered
from tests.blame.small_files import Fault, matches_of, tensors, walk
from tests.quantization.small_models import Traced, noise, traced

pytestmark = pytest.mark.integration
IMAGES = noise(5, 2)


@pytest.fixture(scope="session")
def small() -> Traced:
    torch.set_num_threads(1)
    return traced("onnx", "cpu")


def rank(small: Traced, faults: dict[str, Fault]) -> list[str]:
    """Return the paths of the layers of a file with these faults, worst first."""
    sound, found = (tensors(small.module, IMAGES, each) for each in ({}, faults))
    suspect, reexported = walk(small.module, IMAGES, found), walk(small.module, IMAGES, sound)
    matches = matches_of(small.module, IMAGES)
    modules = {name for name, _ in small.model.named_modules()}
    groups = group(NETWORKS["cloformer"], small.module, matches, modules)
    made = layers(groups, suspect, reexported, faulty_nodes(small.module, suspect, reexported))
    effect = OutputNoise(small.module, made, TASKS["classification"].outputs)
    floats = float_values(small.module, IMAGES)
    effect.add(floats, Walk(small.module, matches).step(floats, found), lambda: None)
    return [layer.path for layer in ranked(made, effect)]


def test_every_operator_of_the_model_is_found_in_the_file(small: Traced) -> None:
    matches = matches_of(small.module, IMAGES)
    known = {f"file/{name}": name for name in matches}
    floats = {node.name: value for node, value in float_values(small.module, IMAGES).items()}
    for name, match in matches.items():
        if known.get(match.tensor) != name:  # two tensors hold the same values
            torch.testing.assert_close(floats[known[match.tensor]].flatten(), floats[name].flatten())
    convs = [node.name for kind in ("conv", "depthwise", "linear") for node in small.nodes(kind)]
    assert set(convs) <= set(matches)


def test_equal_files_have_the_ceiling_everywhere(small: Traced) -> None:
    errors = walk(small.module, IMAGES, tensors(small.module, IMAGES))
    assert {error.sqnr_db for error in errors.values()} == {SQNR_CEILING_DB}
    assert {error.cumulative_db for error in errors.values()} == {SQNR_CEILING_DB}
    assert not faulty_nodes(small.module, errors, errors)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1.5, 0.0))
def test_a_planted_error_is_attributed_to_its_node_alone(small: Traced, seed: int, exponent: float) -> None:
    convs = [node for kind in ("conv", "depthwise", "linear") for node in small.nodes(kind)]
    node = convs[seed % len(convs)]
    added = torch.Generator().manual_seed(seed)

    def fault(value: Tensor) -> Tensor:
        return value + 10**exponent * value.std() * torch.randn(value.shape, generator=added)

    errors = walk(small.module, IMAGES, tensors(small.module, IMAGES, {node.name: fault}))
    entered = {name for name, error in errors.items() if error.sqnr_db < 90}
    assert entered == {node.name}
    assert errors[node.name].cumulative_db < 90
    # Some tensors have little effect on the logits, but all have some.
    assert list(errors.values())[-1].cumulative_db < 150


@pytest.mark.parametrize("kind", ["conv", "depthwise", "linear", "silu", "mul", "add", "concat"])
def test_the_planted_layer_ranks_first(small: Traced, kind: str) -> None:
    node = small.nodes(kind)[-1]
    found = rank(small, {node.name: lambda value: value.roll(1, 1)})
    assert found[0] == graph.path(node)


def test_the_first_of_two_faults_ranks_before_the_second(small: Traced) -> None:
    first, second = small.nodes("conv")[2], small.nodes("conv")[-1]
    found = rank(small, {first.name: lambda value: 1.01 * value, second.name: lambda value: -value})
    assert found[0] == graph.path(first)


def test_the_origin_of_nan_ranks_before_a_larger_error(small: Traced) -> None:
    large, nan = small.nodes("conv")[1], small.nodes("silu")[-1]

    def spoiled(value: Tensor) -> Tensor:
        made = value.clone()
        made[0, 0, 0, 0] = float("nan")
        return made

    faults: dict[str, Fault] = {large.name: lambda value: -value, nan.name: spoiled}
    errors = walk(small.module, IMAGES, tensors(small.module, IMAGES, faults))
    assert [name for name, error in errors.items() if error.non_finite] == [nan.name]
    assert rank(small, faults)[0] == graph.path(nan)


def test_an_injected_error_gives_the_outputs_of_a_run_with_it(small: Traced) -> None:
    node = small.nodes("depthwise")[0]
    floats = float_values(small.module, IMAGES)
    (value,) = (found for item, found in floats.items() if item.name == node.name)
    error = 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    made = Injection(small.module, [node.name]).outputs(floats, {node.name: error})
    with_it = tensors(small.module, IMAGES, {node.name: lambda value: value + error})
    expected = torch.from_numpy(with_it[f"file/{small.nodes('linear')[-1].name}"].values)
    torch.testing.assert_close(made, expected)
    (undisturbed,) = outputs_of(floats)
    assert not np.allclose(centered(made.numpy()), centered(undisturbed.numpy()))
