"""The planted faults: what they are, and how a layer's weights are found among stored ones."""

import copy
from collections import Counter
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.faults.catalogue import FAULTS, Fault
from benchmarks.faults.files import Stored
from benchmarks.faults.matching import LAYOUTS, match
from benchmarks.faults.wrapping import NanAbove
from cloformer_deploy.data import Preprocessing, probe_images
from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from cloformer_deploy.weights.zoo import resolve_weights

pytestmark = pytest.mark.integration

Weights = NDArray[np.float32]
SMALL = Preprocessing.published(64, 64)


def test_there_are_twenty_for_each_format_in_floats_and_in_integers() -> None:
    assert set(Counter(fault.format for fault in FAULTS).values()) == {20}
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) == 60
    of_each = Counter((fault.format, fault.kind, fault.precision == "int8") for fault in FAULTS)
    assert (
        min(of_each[name, "layer", integers] for name in ("onnx", "tflite", "coreml") for integers in (False, True)) > 2
    )


@pytest.fixture(scope="module")
def trained() -> CloFormer:
    return cast(CloFormer, build_model(load_checkpoint(resolve_weights())))


def logits_of(model: CloFormer) -> Weights:
    with torch.inference_mode():
        logits: Weights = model(torch.from_numpy(SMALL.normalize(probe_images(2, SMALL)))).numpy()
    return logits


EDITED = [fault for fault in FAULTS if fault.edit is not None]


@pytest.mark.parametrize("fault", EDITED, ids=lambda fault: fault.name)
def test_a_fault_changes_the_layers_it_names_and_the_logits(fault: Fault, trained: CloFormer) -> None:
    edited = copy.deepcopy(trained)
    assert fault.edit is not None
    fault.edit(edited)
    after = edited.state_dict()
    changed = {
        name.rpartition(".")[0] for name, value in trained.state_dict().items() if not torch.equal(value, after[name])
    }
    assert changed
    if fault.kind == "layer":
        assert changed == set(fault.layers)
    if "overflow" not in fault.name:  # float32 does not
        assert not np.allclose(logits_of(edited), logits_of(trained), rtol=0, atol=0.003)


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault.wrapper is not None], ids=lambda fault: fault.name
)
def test_a_wrapper_computes_what_its_name_says(fault: Fault, trained: CloFormer) -> None:
    assert fault.wrapper is not None
    pixels = torch.from_numpy(probe_images(2, SMALL))
    images = torch.from_numpy(SMALL.normalize(pixels.numpy()))
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in (SMALL.mean, SMALL.std))
    fed = {
        "normalized twice": (images - mean) / std,
        "pixels of 0 to 1": pixels / 255,
        "pixels of 0 to 255": pixels.float(),
        "NaN on one image in 1,000": images,
    }
    wrapped = fault.wrapper(trained)
    with torch.inference_mode():
        torch.testing.assert_close(wrapped(images), trained(fed[fault.what]), rtol=1e-3, atol=1e-3)
        if isinstance(wrapped, NanAbove):
            assert wrapped(torch.full_like(images, 1.8)).isnan().all()


def random_weights(seed: int, shape: tuple[int, ...]) -> Weights:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(24, 24, 1, 1), (32, 16, 3, 3), (72, 1, 3, 3), (40, 1, 3, 7), (20, 64)]),
    st.integers(0, 2),
    st.booleans(),
)
def test_weights_are_found_in_any_layout_with_channels_scaled(
    seed: int, shape: tuple[int, ...], layout: int, integers: bool
) -> None:
    rng = np.random.default_rng(seed)
    weight = random_weights(seed, shape)
    outputs = rng.uniform(0.05, 20, (shape[0], *[1] * (len(shape) - 1)))
    inputs = rng.uniform(0.3, 3, (1, shape[1], *[1] * (len(shape) - 2)))
    held = weight * outputs * inputs
    if integers:
        held = np.rint(held / np.abs(held).max(axis=tuple(range(1, len(shape))), keepdims=True) * 127).astype(np.int8)
    if len(shape) == 4:
        held = np.ascontiguousarray(held.transpose(np.argsort(LAYOUTS[layout])))
    others = [Stored(f"other {index}", random_weights(seed + 1 + index, held.shape), None) for index in range(4)]
    found = match(weight, [*others[:2], Stored("it", held, None), *others[2:]])
    assert found.stored.name == "it"
    np.testing.assert_allclose(
        found.scale * weight, found.view, rtol=0, atol=np.abs(held).max() / (60 if integers else 1e4)
    )
    found.view[0] = 0
    assert (held == 0).sum() >= weight[0].size  # the view writes to what is stored


def test_weights_that_are_not_there_are_refused() -> None:
    weight = random_weights(0, (32, 16, 3, 3))
    with pytest.raises(ValueError, match="explains"):
        match(weight, [Stored("another", random_weights(1, (32, 16, 3, 3)), None)])
    with pytest.raises(ValueError, match="nothing of this shape"):
        match(weight, [Stored("smaller", random_weights(1, (16, 16, 3, 3)), None)])
