"""A tensor is known by its numbers, in whatever order; one that is a little different is another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloformer_deploy.backends.registry import BACKENDS, target_of
from cloformer_deploy.quantization.plan import quantized_operators, tensors
from cloformer_deploy.quantization.tensor_matching import fingerprint, fingerprints, identify
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
