"""Detection: agreement, the fall of the average precision, chance, and the mistakes that are named."""

from collections.abc import Callable

import numpy as np
import pytest

from cloformer_deploy.data import RenderedScenes
from cloformer_deploy.data.rendered import CLASSES as RENDERED
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.validation.checks import at_chance
from tests.tasks.detecting import CELLS, TASK, Outputs, compared, objects, outputs

N = 40
TRUTHS = objects(N, 0)
SOUND = outputs(TRUTHS, 1)


def changed(values: Outputs, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Outputs:
    return values | {name: np.asarray(change(values[name]), np.float32)}


def test_it_is_a_task() -> None:
    assert TASKS["detection"].metric == "ap"
    assert not TASKS["detection"].margin


def test_without_a_path_it_opens_scenes_with_boxes_where_the_classes_are_theirs() -> None:
    known, other = TASK.open_data(None, len(RENDERED), RENDERED), TASK.open_data(None, 2, ("a", "b"))
    assert isinstance(known, RenderedScenes)
    assert isinstance(other, RenderedScenes)
    assert (known.targets, other.targets) == ("boxes", None)
    assert len(other) < len(known)


def test_a_sound_file() -> None:
    found = compared(SOUND, SOUND, TRUTHS)
    assert (found.agreement, found.drop_pp) == (1, 0)
    assert found.score is not None
    assert 0.5 < found.score < 1
    assert found.classes == ()
    assert at_chance(found) is None


def test_a_file_that_moves_boxes_falls_and_agrees_less() -> None:
    found = compared(SOUND, outputs(TRUTHS, 1, noise=0.03), TRUTHS)
    assert found.agreement < 0.6
    assert found.drop_ci95_pp is not None
    assert found.drop_ci95_pp[0] > 5


def test_a_detection_that_agrees_has_the_class_and_is_taken_once() -> None:
    other_class = changed(SOUND, "scores", lambda scores: np.roll(scores, 1, axis=2))
    assert compared(SOUND, other_class, None).agreement < 0.1
    twice = {name: values[:, [0, 1, *range(CELLS)]] for name, values in SOUND.items()}
    assert compared(twice, twice, None).agreement == 1


def test_another_order_of_the_classes_or_boxes_elsewhere_are_chance() -> None:
    for name, change in (
        ("scores", lambda scores: np.roll(scores, 1, axis=2)),
        ("boxes", lambda boxes: boxes[..., [1, 0, 3, 2]] * 0.5),
    ):
        wrong = changed(SOUND, name, change)
        text = at_chance(compared(wrong, wrong, TRUTHS))
        assert text is not None, name


def test_without_boxes_there_is_no_score_but_with_targets_of_a_baseline_the_agreement_is_one() -> None:
    moved = outputs(TRUTHS, 1, noise=0.03)
    plain = compared(SOUND, moved, None)
    assert (plain.score, plain.drop_pp) == (None, None)
    scored = compared(SOUND, moved, None, [None] * N)
    assert scored.drop_pp == pytest.approx(100 * (1 - plain.agreement))


def test_where_pytorch_finds_nothing_no_agreement_is_claimed() -> None:
    nothing = changed(SOUND, "scores", lambda scores: scores * 0.1)
    found = compared(nothing, nothing, None)
    assert (found.agreement, found.agreement_ci95) == (0, (0, 1))


def test_an_image_with_nan_has_no_detection() -> None:
    broken = {name: values.copy() for name, values in SOUND.items()}
    broken["boxes"][1, 0, 0] = np.nan
    found = compared(SOUND, broken, TRUTHS)
    assert found.agreement < 1
    assert found.drop_pp is not None
    assert found.drop_pp > 0


def test_evidence_is_of_equal_length() -> None:
    assert len({len(item) for item in TASK.evidence(SOUND, SOUND, TRUTHS)}) == 1
    assert len({len(item) for item in TASK.evidence(SOUND, SOUND)}) == 1


MISTAKES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "the boxes are transposed": ("boxes", lambda boxes: boxes[..., [1, 0, 3, 2]]),
    "in pixels of 96 x 64, not": ("boxes", lambda boxes: boxes * [96, 64, 96, 64]),
    "in pixels of 64 x 96 and transposed": ("boxes", lambda boxes: boxes[..., [1, 0, 3, 2]] * [64, 96, 64, 96]),
    "the boxes are xywh": (
        "boxes",
        lambda boxes: np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1),
    ),
    "the boxes are cxcywh": (
        "boxes",
        lambda boxes: np.concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], axis=-1),
    ),
    "the boxes are mirrored left to right": (
        "boxes",
        lambda boxes: np.stack([1 - boxes[..., 2], boxes[..., 1], 1 - boxes[..., 0], boxes[..., 3]], axis=-1),
    ),
    "stride 16 by +0.125": (
        "boxes",
        lambda boxes: boxes + np.where((np.arange(CELLS) >= 64) & (np.arange(CELLS) < 80), 0.125, 0)[:, None],
    ),
    "the labels are rotated by 1": ("scores", lambda scores: np.roll(scores, 1, axis=2)),
    "the classes 0 and 2 are swapped": ("scores", lambda scores: scores[..., [2, 1, 0, 3]]),
    "the scores are logits": ("scores", lambda scores: np.log(scores / (1 - scores))),
    "the sigmoid is applied twice": ("scores", lambda scores: 1 / (1 + np.exp(-scores))),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_a_mistake_is_named(mistake: str, noise: float) -> None:
    name, change = MISTAKES[mistake]
    random = np.random.default_rng(0)
    wrong = changed(SOUND, name, lambda values: (1 + random.normal(0, noise, values.shape)) * change(values))
    (text,) = TASK.diagnose(SOUND, wrong, None)
    assert mistake in text


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1])
def test_noise_is_given_no_name(noise: float) -> None:
    random = np.random.default_rng(0)
    noisy = {name: (each + random.normal(0, noise, each.shape)).astype(np.float32) for name, each in SOUND.items()}
    assert list(TASK.diagnose(SOUND, noisy, None)) == []
