"""Segmentation: mean IoU and agreement from counts of pixels, their intervals, and the mistakes that are named."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cloformer_deploy.data import RenderedScenes
from cloformer_deploy.data.rendered import SCENE_CLASSES
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.tasks.bootstrap import bootstrap_ci95
from cloformer_deploy.tasks.pixels import IGNORED, class_drops, mean_iou, packed, unpacked
from cloformer_deploy.tasks.segmentation import LOGITS
from tests.tasks.maps import CLASSES, TASK, Maps, Masks, compared, one_hot, scenes, wide


def test_it_is_a_task() -> None:
    assert TASKS["segmentation"].metric == "miou"
    assert not TASKS["segmentation"].margin


def test_without_a_path_it_opens_scenes_with_masks_where_the_classes_are_theirs() -> None:
    known = TASK.open_data(None, len(SCENE_CLASSES), SCENE_CLASSES)
    other = TASK.open_data(None, 2, ("a", "b"))
    assert isinstance(known, RenderedScenes)
    assert isinstance(other, RenderedScenes)
    assert (known.has_targets, other.has_targets) == (True, False)
    assert len(other) < len(known)


@settings(deadline=None, max_examples=30)
@given(
    arrays(np.uint8, (6, 5), elements=st.integers(0, 3)),
    arrays(np.uint8, (6, 5), elements=st.sampled_from([0, 1, 2, 3, IGNORED])),
)
def test_counts_are_those_of_the_confusion_matrix(found: Masks, mask: Masks) -> None:
    counts = unpacked([packed(found, found, mask, CLASSES, valid=True)])
    kept = mask != IGNORED
    matrix = np.zeros((CLASSES, CLASSES))
    np.add.at(matrix, (mask[kept], found[kept]), 1)
    assert np.array_equal(counts.right[0], matrix.diagonal())
    assert np.array_equal(counts.true[0], matrix.sum(axis=1))
    assert np.array_equal(counts.found[0], matrix.sum(axis=0))
    assert (counts.same[0], counts.total[0], counts.labeled) == (30, 30, True)


def test_the_mean_iou_is_of_the_classes_that_occur() -> None:
    right, true, found = np.array([6.0, 1.0, 0.0]), np.array([8.0, 2.0, 0.0]), np.array([7.0, 2.0, 1.0])
    assert mean_iou(right, true, found) == pytest.approx((6 / 9 + 1 / 3) / 2)
    assert np.isnan(mean_iou(right, np.zeros(3), found))


def test_a_sound_file() -> None:
    classes = scenes(6)
    masks = wide(classes)
    masks[:, :3] = IGNORED
    same = compared(one_hot(classes), one_hot(classes), masks)
    assert [same.score, same.drop_pp, same.agreement] == [1, 0, 1]
    assert [same.drop_ci95_pp, same.agreement_ci95] == [(0, 0), (1, 1)]
    assert same.metric == "miou"
    assert "pixel accuracy 100.00%" in same.drop_detail


def test_a_file_that_takes_one_class_for_another() -> None:
    classes = scenes(20)
    wrong = np.where(classes == 3, 2, classes)
    found = compared(one_hot(classes), one_hot(wrong), wide(classes))
    share = float((wide(wrong) == wide(classes)).mean())
    assert found.agreement == pytest.approx(share)
    assert found.score is not None
    assert found.drop_pp is not None
    assert found.drop_pp == pytest.approx(100 * (1 - found.score))
    assert found.drop_ci95_pp is not None
    low, high = found.drop_ci95_pp
    assert low < found.drop_pp < high
    assert low > 20
    first = found.classes[0]
    assert (first.index, first.n, first.drop_pp) == (3, 20, 100)
    assert first.detail == "IoU 100.0% and 0.0%"
    taken = next(item for item in found.classes if item.index == 2)
    assert taken.p_value < 0.01
    assert taken.drop_ci95_pp[0] > 10


def test_classes_that_do_not_occur_are_left_out() -> None:
    classes = np.minimum(scenes(5), 1)
    wrong = np.where(classes == 1, 3, classes)
    found = compared(one_hot(classes), one_hot(wrong), wide(classes))
    assert {item.index for item in found.classes} <= {0, 1}
    assert found.classes[0].index == 1


def test_a_class_of_few_images_is_never_sure_to_have_changed() -> None:
    """In a single image, or two, a class may be lost altogether by chance."""
    classes = np.zeros((12, 4, 6), np.int64)
    classes[:2, 1:3, 1:5] = 3
    classes[2:, 1:3, 1:5] = 1
    wrong = np.where(classes == 3, 2, classes)
    found = compared(one_hot(classes), one_hot(wrong), wide(classes))
    lost = next(item for item in found.classes if item.index == 3)
    assert (lost.n, lost.drop_pp) == (2, 100)
    assert lost.p_value > 0.4
    one = compared(one_hot(classes[1:]), one_hot(wrong[1:]), wide(classes[1:]))
    alone = next(item for item in one.classes if item.index == 3)
    assert (alone.n, alone.drop_ci95_pp, alone.p_value) == (1, (-100, 100), 1)


def test_p_values_of_classes_are_right_where_nothing_changed() -> None:
    """Both sides err alike on other images: a small p-value must be as rare as it says."""
    rng = np.random.default_rng(0)
    small = 0
    for _ in range(60):
        classes = scenes(12, seed=int(rng.integers(2**31)))
        sides = [np.where(rng.random((12, 1, 1)) < 0.4, 0, classes) for _ in range(2)]
        masks = wide(classes)
        reference = {LOGITS.name: one_hot(classes)}
        before, after = (TASK.evidence({LOGITS.name: one_hot(side)}, reference, list(masks)) for side in sides)
        drops = class_drops(unpacked(before), unpacked(after))
        small += int((drops.p_value[drops.index == 1] < 0.1).sum())
    assert small <= 14


def test_without_masks_there_is_no_score_but_with_targets_of_a_baseline_the_agreement_is_one() -> None:
    classes = scenes(8)
    wrong = classes.copy()
    wrong[:4] = (wrong[:4] + 1) % CLASSES
    plain = compared(one_hot(classes), one_hot(wrong), None)
    assert (plain.score, plain.drop_pp) == (None, None)
    assert plain.agreement == pytest.approx(0.5)
    evidence = TASK.evidence({"logits": one_hot(classes)}, {"logits": one_hot(classes)}, None)
    scored = compared(one_hot(classes), one_hot(wrong), None, TASK.pseudo_targets(evidence))
    assert scored.drop_pp == pytest.approx(50)
    assert scored.drop_ci95_pp is not None
    assert scored.drop_ci95_pp[0] > 10


def test_an_image_with_nan_has_no_pixel_right() -> None:
    classes = scenes(2)
    broken = one_hot(classes)
    broken[1, 0, 0, 0] = np.nan
    found = compared(one_hot(classes), broken, wide(classes))
    assert found.agreement == pytest.approx(0.5)
    assert found.score is not None
    assert found.score < 0.6


def test_evidence_is_small_and_of_equal_length() -> None:
    evidence = TASK.evidence({"logits": one_hot(scenes(3))}, {"logits": one_hot(scenes(3))}, list(wide(scenes(3))))
    assert {len(item) for item in evidence} == {4 * (3 + 3 * CLASSES)}


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_an_interval_holds_the_figure_and_one_image_tells_nothing(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=n)
    low, high = bootstrap_ci95(lambda weights: weights @ values / n, n, (-9.0, 9.0))
    assert low <= values.mean() <= high
    assert bootstrap_ci95(lambda weights: weights @ values[:1], 1, (-9.0, 9.0)) == (-9, 9)


def test_intervals_cover_at_their_rate_also_with_few_images() -> None:
    """A percentile interval without the correction would cover 85 % with 6 images."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        values = rng.normal(size=6)
        low, high = bootstrap_ci95(lambda weights: weights @ values / 6, 6, (0.0, 0.0))  # noqa: B023
        covered += low <= 0 <= high
    assert 180 <= covered <= 198


def moved(maps: Maps, rows: int, columns: int) -> Maps:
    return np.roll(maps, (rows, columns), (2, 3))


MISTAKES: dict[str, Callable[[Maps], Maps]] = {
    "the map is mirrored left to right": lambda maps: maps[..., ::-1],
    "the map is upside down": lambda maps: maps[:, :, ::-1],
    "the map is turned by half a turn": lambda maps: maps[:, :, ::-1, ::-1],
    "the map is transposed": lambda maps: maps.swapaxes(2, 3),
    "the map is moved by one pixel to the right": lambda maps: moved(maps, 0, 1),
    "the map is moved by one pixel up and to the left": lambda maps: moved(maps, -1, -1),
    "the labels are rotated by 1": lambda maps: np.roll(maps, 1, axis=1),
    "the classes b and d are swapped": lambda maps: maps[:, [0, 3, 2, 1]],
}


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake: str, noise: float) -> None:
    rng = np.random.default_rng(0)
    maps = np.kron(rng.normal(size=(8, CLASSES, 6, 6)), np.ones((1, 1, 2, 2))).astype(np.float32) * 3
    maps += rng.normal(size=maps.shape).astype(np.float32)
    wrong = MISTAKES[mistake](maps) + noise * rng.normal(size=maps.shape).astype(np.float32)
    (said,) = TASK.diagnose({"logits": maps}, {"logits": wrong.astype(np.float32)}, ("a", "b", "c", "d"))
    assert said.startswith(mistake)


@pytest.mark.parametrize("noise", [0.0, 0.3, 3.0])
def test_a_noisy_map_is_given_no_name(noise: float) -> None:
    rng = np.random.default_rng(0)
    maps = np.kron(rng.normal(size=(8, CLASSES, 6, 6)), np.ones((1, 1, 2, 2))).astype(np.float32)
    wrong = maps + noise * rng.normal(size=maps.shape).astype(np.float32)
    assert list(TASK.diagnose({"logits": maps}, {"logits": wrong}, None)) == []
