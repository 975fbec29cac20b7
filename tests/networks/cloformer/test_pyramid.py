"""Weights without a head, or with the head left out, are a feature extractor on every target."""

from typing import cast

import pytest
import torch
from torch import Tensor

from cloformer_deploy.backends.registry import BACKENDS, lower
from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.networks.cloformer import VARIANTS
from cloformer_deploy.networks.cloformer.body import CloFormerBody
from cloformer_deploy.networks.cloformer.heads import network
from cloformer_deploy.networks.cloformer.pyramid import CloFormerPyramid
from tests.tiny import TINY, as_trained

NETWORK = NETWORKS["cloformer"]
TARGETS = [(name, target) for name, item in BACKENDS.items() for target in item.targets]


def pyramid() -> tuple[CloFormerPyramid, CloFormerBody]:
    """Return a network without a head, and the classifier whose weights it has."""
    classifier = as_trained(TINY, seed=0)
    body = cast(CloFormerPyramid, network(TINY.of_classes(0)).eval())
    body.load_state_dict({name: value for name, value in classifier.state_dict().items() if name in body.state_dict()})
    return body, classifier


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def test_its_outputs_are_the_maps_that_the_classifier_pools() -> None:
    body, classifier = pyramid()
    image = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        maps, expected = body(image), classifier.features(image)
    assert [tuple(item.shape) for item in maps] == [(2, 32, 16, 24), (2, 32, 8, 12), (2, 48, 4, 6), (2, 48, 2, 3)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps, expected, strict=True))


@pytest.mark.parametrize(("format_name", "target"), TARGETS)
@pytest.mark.parametrize("integer", [False, True])
def test_lowered_it_is_the_same(format_name: str, target: str, integer: bool) -> None:
    body, _ = pyramid()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        maps = lower(body, format_name, target, integer=integer)(image)
        torch.testing.assert_close(maps, body(image), rtol=0, atol=1e-4)


def test_the_head_is_left_out() -> None:
    classifier = as_trained(TINY, seed=0)
    found = NETWORK.identify(shapes(classifier.state_dict()), None, TINY.as_json(), headless=True)
    assert found is not None
    assert (found.task, found.num_classes, found.assumed) == ("features", 0, ())
    assert found.architecture == TINY.of_classes(0).as_json()
    (note,) = found.notes
    assert note.startswith("the network is taken without a head, its outputs are features; not used: head.bias,")
    assert list(NETWORK.state_shapes(found.architecture)) == list(pyramid()[0].state_dict())


@pytest.mark.parametrize("more", [(), ("norm.weight", "norm.bias"), ("fc.weight", "decoder.0.weight")])
def test_weights_without_a_head(more: tuple[str, ...]) -> None:
    known = shapes(pyramid()[0].state_dict())
    found = NETWORK.identify(known | dict.fromkeys(more, (48,)), None)
    assert found is not None
    assert (found.task, found.variant, found.num_classes) == ("features", "custom", 0)
    assert ("not used" in found.notes[0]) == bool(more)
    assert len(found.assumed) == 2


def test_a_head_that_is_cut_is_no_missing_head() -> None:
    known = shapes(as_trained(TINY, seed=0).state_dict())
    del known["head.weight"]
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        NETWORK.identify(known, None, TINY.as_json())


def test_a_published_body_has_its_name() -> None:
    with torch.device("meta"):
        xxs = network(VARIANTS["xxs"].of_classes(0))
    found = NETWORK.identify(shapes(xxs.state_dict()), "xxs")
    assert found is not None
    assert (found.variant, found.task) == ("xxs", "features")
