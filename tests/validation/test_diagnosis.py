"""Test that every mistake is named under noise as strong as int8's, and that nothing is named for other outputs."""

import copy
import hashlib
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from cloformer_deploy.data import Preprocessing, probe_images
from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.tasks import Outputs
from cloformer_deploy.tasks.classification import LOGITS, Classification
from cloformer_deploy.validation.diagnosis import diagnose
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from cloformer_deploy.weights.zoo import resolve_weights

pytestmark = pytest.mark.integration

Logits = NDArray[np.float32]
Model = Callable[[NDArray[np.float32]], Logits]
TASK = Classification()
SMALL = Preprocessing.published(32, 32)
INT8_DB = 20.0
"""The SQNR that noise as strong as int8's leaves."""


def named(logits: Logits) -> Outputs:
    return {LOGITS.name: logits}


def linear_model(seed: int, classes: int) -> Model:
    """Return a model with random logits of an 8 x 8 thumbnail: it is cheap, and every mistake changes its logits."""
    weight = np.random.default_rng(seed).standard_normal((3 * 8 * 8, classes)).astype(np.float32)

    def run(images: NDArray[np.float32]) -> Logits:
        thumbnails = images.reshape(len(images), 3, 8, 4, 8, 4).mean(axis=(3, 5)).reshape(len(images), -1)
        logits: Logits = np.tanh(thumbnails / 4) @ weight
        return logits

    return run


def images(seed: int, count: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), np.uint8)


def noisy(logits: Logits, sqnr_db: float, seed: int) -> Logits:
    centered = logits - logits.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centered**2).mean()) * 10 ** (-sqnr_db / 20)
    noise = np.random.default_rng(seed).standard_normal(logits.shape)
    return np.asarray(logits + deviation * noise, np.float32)


def diagnosed(logits: Logits, seed: int, labels: tuple[str, ...] | None = None) -> list[str]:
    return explained(linear_model(seed, logits.shape[1]), SMALL, images(seed, len(logits)), logits, labels)


def explained(
    model: Model,
    preprocessing: Preprocessing,
    pixels: NDArray[np.uint8],
    logits: Logits,
    labels: tuple[str, ...] | None = None,
) -> list[str]:
    return diagnose(TASK, lambda images: named(model(images)), preprocessing, pixels, named(logits), labels)


def sound(seed: int, classes: int, count: int = 32) -> Logits:
    return linear_model(seed, classes)(SMALL.normalize(images(seed, count)))


# Outputs without a mistake

SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 50), st.integers(1, 40), st.sampled_from([-20.0, -5.0, 0.0, 3.0, 6.0, 10.0, 20.0, 30.0]))
def test_nothing_is_named_of_noise(seed: int, classes: int, count: int, sqnr_db: float) -> None:
    # Two images of two classes fit a wrong order too easily: the diagnosis is for larger numbers of images.
    assume(count >= 8 or sqnr_db >= INT8_DB)
    assert diagnosed(noisy(sound(seed, classes, count), sqnr_db, seed), seed) == []


@settings(deadline=None)
@given(SEEDS, st.integers(2, 30))
def test_nothing_is_named_of_other_logits(seed: int, classes: int) -> None:
    """The other logits are of another model."""
    other = linear_model(seed + 1, classes)(SMALL.normalize(images(seed)))
    assert diagnosed(other, seed) == []


def test_classes_that_are_alike_are_not_exchanged_by_noise() -> None:
    weights = linear_model(0, 6)

    def doubled(normalized: NDArray[np.float32]) -> Logits:
        return np.repeat(weights(normalized), 2, axis=1)

    logits = doubled(SMALL.normalize(images(0)))
    for seed in range(20):
        assert explained(doubled, SMALL, images(0), noisy(logits, 25, seed)) == []
    assert explained(doubled, SMALL, images(0), logits) == []


def test_gray_images_hide_the_order_of_the_channels() -> None:
    gray = np.repeat(images(0)[:, :1], 3, axis=1)
    model = linear_model(0, 5)
    assert explained(model, SMALL, gray, noisy(model(SMALL.normalize(gray)), INT8_DB, 1)) == []


# Numbers


def test_nan_and_infinity_are_counted_and_the_rest_is_diagnosed_without_them() -> None:
    logits = np.roll(sound(3, 7), 2, axis=1)
    logits[[5, 9, 30], 1] = np.nan
    logits[4] = -np.inf
    found = diagnosed(logits, 3)
    assert found[:2] == [
        "NaN logits on 3 of 32 images, the first is image 5",
        "infinite logits on 1 of 32 images, the first is image 4",
    ]
    assert len(found) == 3
    assert "the labels are rotated by 2" in found[2]
    assert "100 % of 28 images" in found[2]


def test_nothing_but_nan_is_only_that() -> None:
    logits = np.full((32, 7), np.nan, np.float32)
    assert diagnosed(logits, 3) == ["NaN logits on 32 of 32 images, the first is image 0"]


@pytest.mark.parametrize("wobble", [0.0, 1e-6])
def test_a_constant_output_is_only_that(wobble: float) -> None:
    logits = np.repeat(sound(3, 7)[:1], 32, axis=0)
    (said,) = diagnosed(noisy(logits, 140, 0) if wobble else logits, 3)
    assert said.startswith("the output is constant: over 32 images")


def test_a_constant_added_to_each_image_makes_it_no_less_constant() -> None:
    logits = np.repeat(sound(3, 7)[:1], 32, axis=0) + np.arange(32, dtype=np.float32)[:, None]
    (said,) = diagnosed(logits, 3)
    assert said.startswith("the output is constant")


# Labels


@settings(deadline=None)
@given(SEEDS, st.integers(3, 40), st.data())
def test_a_rotation_is_told(seed: int, classes: int, data: st.DataObject) -> None:
    shift = data.draw(st.integers(1, classes - 1))
    (said,) = diagnosed(noisy(np.roll(sound(seed, classes), shift, axis=1), INT8_DB, seed), seed)
    assert said.startswith(f"the labels are rotated by {shift}: ")
    assert "in that order PyTorch agrees on" in said


@settings(deadline=None)
@given(SEEDS, st.integers(3, 1000), st.data())
def test_two_swapped_classes_are_told_by_name(seed: int, classes: int, data: st.DataObject) -> None:
    first, second = sorted(data.draw(st.sets(st.integers(0, classes - 1), min_size=2, max_size=2)))
    logits = noisy(sound(seed, classes), INT8_DB, seed)
    logits[:, [first, second]] = logits[:, [second, first]]
    names = tuple(f"class {index}" for index in range(classes))
    (said,) = diagnosed(logits, seed, names)
    assert said.startswith(f"the classes class {first} and class {second} are swapped: ")


@settings(deadline=None)
@given(SEEDS, st.permutations(range(9)))
def test_any_order_is_told(seed: int, order: list[int]) -> None:
    moved = [column for column in range(9) if order[column] != column]
    rotated = all((order[column] - column - order[0]) % 9 == 0 for column in range(9))
    assume(len(moved) > 2 and not rotated)
    (said,) = diagnosed(noisy(sound(seed, 9)[:, order], INT8_DB, seed), seed)
    assert said.startswith(f"{len(moved)} classes are permuted: {moved[0]} holds {order[moved[0]]}, ")


# Preprocessing

Wrong = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
MEAN, STD = (np.array(each, np.float32).reshape(3, 1, 1) for each in (SMALL.mean, SMALL.std))
MISTAKES: dict[str, Wrong] = {
    "the file takes BGR: with the channels swapped PyTorch": lambda pixels: SMALL.normalize(pixels)[:, [2, 1, 0]],
    "the file takes BGR: with the channels swapped before": lambda pixels: SMALL.normalize(pixels[:, [2, 1, 0]]),
    "the images are normalized twice": lambda pixels: (SMALL.normalize(pixels) - MEAN) / STD,
    "mean and deviation are left out": lambda pixels: pixels.astype(np.float32) / np.float32(255),
    "the images are not normalized": lambda pixels: pixels.astype(np.float32),
    "the images are flipped left to right": lambda pixels: SMALL.normalize(np.flip(pixels, 3)),
    "the images are upside down": lambda pixels: SMALL.normalize(np.flip(pixels, 2)),
    "the images are transposed": lambda pixels: SMALL.normalize(pixels.transpose(0, 1, 3, 2)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, classes=st.integers(2, 30))
def test_each_mistake_is_told_through_noise(mistake: str, seed: int, classes: int) -> None:
    made = linear_model(seed, classes)(MISTAKES[mistake](images(seed)))
    (said,) = diagnosed(noisy(made, INT8_DB, seed), seed)
    # Channels swapped before or after mean and deviation differ by less than this noise, so that both have one name.
    assert said.startswith("the file takes BGR:" if "BGR" in mistake else mistake)


def test_the_sentence_has_both_figures() -> None:
    said = diagnosed(
        linear_model(1, 10)(MISTAKES["the file takes BGR: with the channels swapped PyTorch"](images(1))), 1
    )[0]
    shape = r"the file takes BGR: with the channels swapped PyTorch agrees on 100 % of 32 images \(200.0 dB\), "
    assert re.fullmatch(shape + r"without on \d+ % \(-?\d+\.\d dB\)", said)


# The bundled model

TRAINED = Preprocessing.published(96, 96)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return build_model(load_checkpoint(resolve_weights()))


@pytest.fixture(scope="module")
def reference(trained: nn.Module) -> Model:
    """Return the model, with a memory, because it sees the same few sets of images in every test."""
    seen: dict[str, Logits] = {}

    def run(images: NDArray[np.float32]) -> Logits:
        key = hashlib.sha256(images.tobytes()).hexdigest()
        if key not in seen:
            seen[key] = logits_of(trained, images)
        return seen[key]

    return run


@pytest.fixture(scope="module")
def rendered() -> NDArray[np.uint8]:
    return probe_images(32, TRAINED)


def logits_of(model: nn.Module, images: NDArray[np.float32]) -> Logits:
    with torch.inference_mode():
        logits: Logits = model(torch.from_numpy(np.ascontiguousarray(images))).numpy()
    return logits


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_trained_model_is_diagnosed_too(mistake: str, reference: Model, rendered: NDArray[np.uint8]) -> None:
    logits = noisy(reference(MISTAKES[mistake](rendered)), 25, 0)
    (said,) = explained(reference, TRAINED, rendered, logits, CLASSES)
    assert said.startswith(mistake)


@pytest.mark.parametrize("sqnr_db", [0.0, 5.0, 10.0, 20.0, 30.0, 60.0])
def test_nothing_is_named_of_a_noisy_trained_model(
    sqnr_db: float, reference: Model, rendered: NDArray[np.uint8]
) -> None:
    logits = noisy(reference(TRAINED.normalize(rendered)), sqnr_db, 1)
    assert explained(reference, TRAINED, rendered, logits, CLASSES) == []


def _roll(weight: Tensor) -> None:
    weight.copy_(weight.roll(1, 0))


def _drop_strongest(weight: Tensor) -> None:
    weight[int(weight.flatten(1).norm(dim=1).argmax())] = 0


@pytest.mark.parametrize("damage", [Tensor.zero_, _roll, _drop_strongest, lambda weight: weight.mul_(2)])
@pytest.mark.parametrize(
    "layer", ["patch_embed.conv3.conv.0", "layers.0.blocks.1.mlp.fc2", "layers.2.blocks.0.attn.qkvs.0", "head"]
)
def test_a_damaged_layer_is_not_named_as_a_mistake_of_preprocessing(
    layer: str,
    damage: Callable[[Tensor], object],
    trained: nn.Module,
    reference: Model,
    rendered: NDArray[np.uint8],
) -> None:
    damaged = copy.deepcopy(trained)
    with torch.no_grad():
        damage(damaged.state_dict()[f"{layer}.weight"])
    found = explained(reference, TRAINED, rendered, logits_of(damaged, TRAINED.normalize(rendered)), CLASSES)
    if layer == "head" and damage is _roll:
        assert "the labels are rotated by 1" in found[0]  # except for the biases, they are
    elif damage is Tensor.zero_ and layer in ("head", "patch_embed.conv3.conv.0"):
        assert [said[:22] for said in found] == ["the output is constant"]
    else:
        assert found == []
