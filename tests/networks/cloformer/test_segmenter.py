"""The segmenter: its weights are told from others, and it is the same on every target."""

import pytest
import torch

from cloformer_deploy.backends.registry import BACKENDS, lower
from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.networks.cloformer import VARIANTS
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.cloformer.heads import network
from tests.tiny import TINY, as_trained_network

NETWORK = NETWORKS["cloformer"]
TARGETS = [(name, target) for name, item in BACKENDS.items() for target in item.targets]
CLASSES = 5
SEGMENTER = TINY.of_head("semantic_fpn", CLASSES)


def segmenter() -> CloFormerBody:
    return as_trained_network(SEGMENTER, seed=0)


def shapes(model: CloFormerBody) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_its_logits_are_at_stride_4() -> None:
    with torch.inference_mode():
        assert segmenter()(torch.randn(2, 3, 64, 96)).shape == (2, CLASSES, 16, 24)


@pytest.mark.parametrize(("format_name", "target"), TARGETS)
@pytest.mark.parametrize("integer", [False, True])
def test_lowered_it_is_the_same(format_name: str, target: str, integer: bool) -> None:
    model, image = segmenter(), torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = model(image)
        found = lower(model, format_name, target, integer=integer)(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_its_weights_are_told_by_their_names() -> None:
    found = NETWORK.identify(shapes(segmenter()), None, TINY.as_json())
    assert found is not None
    assert (found.task, found.num_classes, found.variant, found.notes) == ("segmentation", CLASSES, "custom", ())
    assert found.architecture == SEGMENTER.as_json()
    assert list(NETWORK.state_shapes(found.architecture)) == list(segmenter().state_dict())
    NETWORK.check("custom", found.architecture)


def test_the_body_of_a_published_variant_is_of_that_variant() -> None:
    with torch.device("meta"):
        known = shapes(network(VARIANTS["xs"].of_head("semantic_fpn", 300)))
    found = NETWORK.identify(known, "xs")
    assert found is not None
    assert (found.variant, found.num_classes, found.task) == ("xs", 300, "segmentation")


def test_other_tensors_beside_it_are_told() -> None:
    found = NETWORK.identify(shapes(segmenter()) | {"norm.weight": (48,), "head.weight": (10, 48)}, None)
    assert found is not None
    assert found.task == "segmentation"
    assert found.notes == ("not used: head.weight, norm.weight",)


def test_its_head_can_be_left_out() -> None:
    found = NETWORK.identify(shapes(segmenter()), None, SEGMENTER.as_json(), headless=True)
    assert found is not None
    assert (found.task, found.num_classes) == ("features", 0)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("segment.laterals.2.0.weight", None, r"not those of custom: missing 1 of"),
        ("segment.classify.weight", (0, 64, 1, 1), "has 0 rows"),
        ("segment.classify.weight", (CLASSES, 32, 1, 1), "has shape"),
        ("segment.more", (1,), r"not those of custom: unknown 1"),
    ],
)
def test_heads_that_do_not_fit(name: str, shape: tuple[int, ...] | None, words: str) -> None:
    known = shapes(segmenter())
    if shape is None:
        del known[name]
    else:
        known[name] = shape
    with pytest.raises(CheckpointError, match=words):
        NETWORK.identify(known, None)
