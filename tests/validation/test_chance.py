"""PyTorch's own score is no better than chance where the data do not fit the weights."""

import numpy as np
import pytest

from cloformer_deploy.validation.checks import at_chance
from tests.tasks.comparing import classes_as_logits, compared
from tests.tasks.maps import compared as compared_maps
from tests.tasks.maps import one_hot, scenes, wide


def told(answers: list[int], labels: list[int], classes: int) -> str | None:
    logits = classes_as_logits(answers, classes)
    return at_chance(compared(logits, logits, np.asarray(labels, np.int64)))


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_another_order_of_the_classes(classes: int) -> None:
    labels = [index % classes for index in range(200)]
    moved = [(label + 1) % classes for label in labels]
    text = told(moved, labels, classes)
    assert text is not None
    assert "0.0%" in text
    assert f"{1 / classes:.1%}" in text
    assert told(labels, labels, classes) is None


def test_one_answer_for_everything_is_chance_however_frequent_the_class() -> None:
    labels = [0] * 380 + [1] * 20
    assert told([0] * 400, labels, 2) is not None


def test_weak_weights_are_not_chance() -> None:
    rng = np.random.default_rng(0)
    labels = [index % 10 for index in range(500)]
    weak = [label if rng.random() < 0.2 else int(rng.integers(10)) for label in labels]
    assert told(weak, labels, 10) is None


def test_few_images_or_one_class_cannot_tell() -> None:
    assert told([1, 0], [0, 1], 2) is None
    assert told([1] * 50, [0] * 50, 2) is not None  # chance gives none of them
    assert told([0] * 50, [0] * 50, 2) is None


def test_maps_of_classes_in_another_order() -> None:
    classes = scenes(40)
    right, moved = one_hot(classes), one_hot((classes + 1) % classes.max().item())
    assert at_chance(compared_maps(right, right, wide(classes))) is None
    text = at_chance(compared_maps(moved, moved, wide(classes)))
    assert text is not None
    assert "another order" in text


def test_maps_of_one_class_are_chance_and_few_of_them_cannot_tell() -> None:
    classes = scenes(40)
    blank = one_hot(np.zeros_like(classes))
    assert at_chance(compared_maps(blank, blank, wide(classes))) is not None
    assert at_chance(compared_maps(blank[:1], blank[:1], wide(classes[:1]))) is None


def test_weak_maps_are_not_chance() -> None:
    classes = scenes(40)
    weak = np.where(np.random.default_rng(0).random(classes.shape) < 0.3, classes, 0)
    assert at_chance(compared_maps(one_hot(weak), one_hot(weak), wide(classes))) is None


def test_without_labels_there_is_no_score() -> None:
    logits = classes_as_logits([0, 1] * 50, 2)
    assert at_chance(compared(logits, logits)) is None
