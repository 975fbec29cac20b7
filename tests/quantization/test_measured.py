"""Ranges that are measured once for every format are those that each format would have measured itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cloformer_deploy.backends.registry import target_of
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.quantization.measured import Measured, await_measured
from cloformer_deploy.quantization.observers import Histogram, percentile
from cloformer_deploy.quantization.plan import plan
from cloformer_deploy.quantization.preparation import CalibrationBatches, Observed, measured, observed
from cloformer_deploy.quantization.recipes import Recipe
from cloformer_deploy.quantization.tensor_matching import fingerprint
from tests.quantization.small_models import SIDE, noise
from tests.quantization.test_preparation import Noise, Told
from tests.tiny import TINY, as_trained

CLOFORMER = NETWORKS["cloformer"]
TARGETS = [("tflite", "cpu"), ("coreml", "ane"), ("onnx", "cpu"), ("onnx", "hexagon")]


def recipe_of(key: tuple[str, str]) -> Recipe:
    return target_of(*key).recipes["int8"]


def observe(
    key: tuple[str, str], told: Told, before: Measured | None = None, others: tuple[Recipe, ...] = ()
) -> tuple[Observed, CalibrationBatches]:
    images = CalibrationBatches(Noise(), Preprocessing.published(SIDE, SIDE), "int8", told)
    rewrites = target_of(*key).integer_rewrites
    return observed(as_trained(TINY, seed=4), CLOFORMER, rewrites, recipe_of(key), images, before, others), images


def measuring_steps(told: Told) -> list[str]:
    return [item for item in told.told if isinstance(item, str)]


@pytest.mark.integration
def test_ranges_are_those_that_a_format_measures_itself(tmp_path: Path) -> None:
    """Worth its 10 s: it traces and observes the model for each of four targets, with and without what was measured."""
    base, images = observe(TARGETS[0], Told(), others=tuple(map(recipe_of, TARGETS)))
    path = tmp_path / "measured.pt"
    measured(base, images).save(path)
    known = await_measured(path)
    for key in TARGETS[1:]:
        told = Told()
        shared, _ = observe(key, told, known)
        assert "Equalizing channels for int8" not in measuring_steps(told)
        if key in (("coreml", "ane"), ("onnx", "cpu")):  # the formats of a plain export: nothing is left to observe
            assert measuring_steps(told) == []
        alone, _ = observe(key, Told())
        expected = plan(alone.traced, alone.recipe, alone.seen)
        found = plan(shared.traced, shared.recipe, shared.seen)
        assert found.operators == expected.operators
        for theirs, ours in ((expected.ranges, found.ranges), (expected.wide_ranges, found.wide_ranges)):
            assert theirs.keys() == ours.keys()
            for name, kept in theirs.items():
                width = kept.high - kept.low
                assert abs(ours[name].low - kept.low) <= 2e-3 * width, name
                assert abs(ours[name].high - kept.high) <= 2e-3 * width, name


@pytest.mark.integration
def test_what_the_other_form_does_not_have_is_observed() -> None:
    base, images = observe(("coreml", "ane"), Told())  # its recipe rounds inputs of convolutions alone
    told = Told()
    shared, _ = observe(("onnx", "cpu"), told, measured(base, images))
    assert measuring_steps(told) == ["Measuring ranges for int8"]
    alone, _ = observe(("onnx", "cpu"), Told())
    assert shared.seen.keys() == alone.seen.keys()
    ranges = ((percentile(shared.seen[name]), percentile(alone.seen[name])) for name in alone.seen)
    assert all(abs(ours.high - theirs.high) <= 2e-3 * (theirs.high - theirs.low) for ours, theirs in ranges)


class _Constant(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 0).tanh() + (4 * x).sigmoid()


def test_zeros_are_not_recognized_and_powers_of_2_are() -> None:
    graph = torch.export.export(_Constant(), (torch.ones(1, 3, 8, 8),)).module()
    probe = noise(1)[:1, :, :8, :8]
    values = (4 * probe).numpy()
    histogram = Histogram()
    histogram.add(torch.from_numpy(values / 8))
    zeros = Histogram()
    zeros.add(torch.zeros(values.size))
    known = {"eighth": fingerprint(values / 8), "zeros": fingerprint(np.zeros_like(values))}
    before = Measured(graph, {"eighth": histogram, "zeros": zeros}, probe, known)
    found = before.of(graph, ["mul", "tanh", "mul_1", "sigmoid"])
    assert set(found) == {"mul_1"}
    assert (found["mul_1"].low, found["mul_1"].high) == (min(values.min(), 0), max(values.max(), 0))
    exact = Histogram()
    exact.add(torch.from_numpy(values))
    assert found["mul_1"].reach == exact.reach
    np.testing.assert_array_equal(found["mul_1"].counts, exact.counts)
