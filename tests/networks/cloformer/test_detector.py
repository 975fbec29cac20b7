"""The detector: its weights are told from others, its boxes are its distances, it is the same on every target."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cloformer_deploy.backends.registry import BACKENDS, lower
from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.networks.cloformer import VARIANTS
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.cloformer.heads import network
from cloformer_deploy.networks.heads.detector import FIRST_DISTANCE, FIRST_SCORE, STRIDES, Clip, ClipByRelus, decoded
from tests.tiny import TINY, as_trained_network

NETWORK = NETWORKS["cloformer"]
TARGETS = [(name, target) for name, item in BACKENDS.items() for target in item.targets]
CLASSES = 5
DETECTOR = TINY.of_head("anchor_free", CLASSES)


def detector() -> CloFormerBody:
    return as_trained_network(DETECTOR, seed=0)


def shapes(model: CloFormerBody) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def run(model: torch.nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        boxes, scores = model(image)
    return boxes, scores


def test_its_cells_are_those_of_three_maps() -> None:
    boxes, scores = run(detector(), torch.randn(2, 3, 64, 96))
    count = sum((64 // stride) * (96 // stride) for stride in STRIDES)
    assert boxes.shape == (2, count, 4)
    assert scores.shape == (2, count, CLASSES)
    for values in (boxes, scores):
        assert float(values.min()) >= 0
        assert float(values.max()) <= 1
    assert bool((boxes[..., :2] <= boxes[..., 2:]).all())


def test_untrained_every_score_is_low_and_every_box_is_as_large() -> None:
    torch.manual_seed(0)
    boxes, scores = run(network(DETECTOR).eval(), torch.randn(1, 3, 256, 256))
    assert float(scores.mean()) == pytest.approx(FIRST_SCORE, rel=0.3)
    middle = boxes[0].reshape(-1, 4)[32 * 16 + 16]
    assert (middle[2:] - middle[:2]).tolist() == pytest.approx([2 * FIRST_DISTANCE / 32] * 2, rel=0.3)


def test_boxes_are_the_distances_from_the_centers_of_cells() -> None:
    distances = torch.zeros(1, 4, 2, 4)
    distances[0, :, 1, 2] = torch.tensor([1.0, 0.5, 0.25, 9.0])  # left, top, right, bottom, in cells
    found = decoded(distances)[0]
    assert found[:, 0, 0].tolist() == pytest.approx([0.125, 0.25, 0.125, 0.25])
    assert found[:, 1, 2].tolist() == pytest.approx([1.5 / 4, 1 / 2, 2.75 / 4, (1.5 + 9) / 2])


def test_boxes_are_clipped_to_the_image_in_either_form() -> None:
    boxes = torch.tensor([-1.0, 0.0, 1e-7, 0.3, 1.0, 7.0])
    assert Clip()(boxes).tolist() == boxes.clamp(0, 1).tolist()
    torch.testing.assert_close(ClipByRelus()(boxes), boxes.clamp(0, 1), rtol=0, atol=2**-24)


@pytest.mark.integration
@pytest.mark.parametrize(("format_name", "target"), TARGETS)
@pytest.mark.parametrize("integer", [False, True])
def test_lowered_it_is_the_same(format_name: str, target: str, integer: bool) -> None:
    model, image = detector(), torch.randn(1, 3, 64, 96)
    expected, found = run(model, image), run(lower(model, format_name, target, integer=integer), image)
    for ours, theirs in zip(expected, found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)


def test_its_weights_are_told_by_their_names() -> None:
    found = NETWORK.identify(shapes(detector()), None, TINY.as_json())
    assert found is not None
    assert (found.task, found.num_classes, found.variant, found.notes) == ("detection", CLASSES, "custom", ())
    assert found.architecture == DETECTOR.as_json()
    assert list(NETWORK.state_shapes(found.architecture)) == list(detector().state_dict())
    assert NETWORK.state_shapes(found.architecture) == shapes(detector())
    NETWORK.check("custom", found.architecture)


def test_the_body_of_a_published_variant_is_of_that_variant() -> None:
    with torch.device("meta"):
        known = shapes(network(VARIANTS["s"].of_head("anchor_free", 80)))
    found = NETWORK.identify(known, "s")
    assert found is not None
    assert (found.variant, found.num_classes, found.task) == ("s", 80, "detection")


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("detect.laterals.2.0.weight", None, r"not those of custom: missing 1 of"),
        ("detect.scores.0.1.weight", (0, 64, 1, 1), "has 0 rows"),
        ("detect.scores.2.1.weight", (CLASSES + 1, 64, 1, 1), "has shape"),
        ("detect.more", (1,), r"not those of custom: unknown 1"),
    ],
)
def test_heads_that_do_not_fit(name: str, shape: tuple[int, ...] | None, words: str) -> None:
    known = shapes(detector())
    if shape is None:
        del known[name]
    else:
        known[name] = shape
    with pytest.raises(CheckpointError, match=words):
        NETWORK.identify(known, None)


def test_a_batch_has_the_boxes_of_its_images() -> None:
    model, images = detector(), torch.randn(2, 3, 32, 64)
    together = run(model, images)
    for index in range(2):
        alone = run(model, images[index : index + 1])
        for ours, theirs in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[index : index + 1], theirs, rtol=0, atol=1e-5)
