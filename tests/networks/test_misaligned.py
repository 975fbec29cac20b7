"""Mistakes of upsampling are named where a file has them, and not where it has none."""

from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from cloformer_deploy.data import Preprocessing, RenderedScenes
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.heads.mistakes import LeftAligned
from cloformer_deploy.tasks.segmentation import LOGITS, Segmentation
from cloformer_deploy.validation import reference_outputs
from cloformer_deploy.validation.diagnosis import diagnose
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from tests.tiny import SCENES, TINY, as_trained_network

pytestmark = pytest.mark.integration

SIDE = 96
PREPROCESSING = Preprocessing.published(SIDE, SIDE, margin=False)


def outputs(model: nn.Module, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return dict(reference_outputs(model, images, Segmentation.outputs))


@pytest.fixture(scope="module")
def model() -> CloFormerBody:
    return cast(CloFormerBody, build_model(load_checkpoint(SCENES)))


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    (batch,) = RenderedScenes("test", range(12)).batches(PREPROCESSING, 12)
    return batch.pixels


def said(model: CloFormerBody, found: nn.Module, pixels: NDArray[np.uint8], noise_db: float) -> list[str]:
    """Return the sentences on a file that computes what `found` does, but for noise."""
    logits = outputs(found, PREPROCESSING.normalize(pixels))[LOGITS.name]
    centered = logits - logits.mean(axis=1, keepdims=True)
    noise = np.random.default_rng(0).standard_normal(logits.shape) * centered.std() * 10 ** (-noise_db / 20)
    mistaken = [
        (what, lambda images, wrong=wrong: outputs(wrong, images))
        for what, wrong in NETWORKS["cloformer"].mistakes(model)
    ]
    return diagnose(
        Segmentation(),
        lambda images: outputs(model, images),
        PREPROCESSING,
        pixels,
        {LOGITS.name: (logits + noise).astype(np.float32)},
        None,
        mistaken,
    )


@pytest.mark.parametrize("noise_db", [200.0, 35.0])
@pytest.mark.parametrize("index", [0, 1])
def test_a_mistake_is_named(model: CloFormerBody, pixels: NDArray[np.uint8], index: int, noise_db: float) -> None:
    what, wrong = list(NETWORKS["cloformer"].mistakes(model))[index]
    (sentence,) = said(model, wrong, pixels, noise_db)
    assert sentence.startswith(what)


@pytest.mark.parametrize("noise_db", [200.0, 35.0, 15.0])
def test_a_sound_file_is_given_no_name(model: CloFormerBody, pixels: NDArray[np.uint8], noise_db: float) -> None:
    assert said(model, model, pixels, noise_db) == []


def test_a_classifier_has_no_upsampling() -> None:
    assert list(NETWORKS["cloformer"].mistakes(as_trained_network(TINY, seed=0))) == []


def test_left_aligned_takes_samples_at_halves() -> None:
    row = torch.tensor([[[[0.0, 2.0, 6.0]]]])
    assert torch.equal(LeftAligned()(row)[0, 0, 0], torch.tensor([0.0, 1.0, 2.0, 4.0, 6.0, 6.0]))
