"""Test the comparison of classifiers: agreement, paired drop, classes that changed, and permuted classes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cloformer_deploy.backends.registry import all_precisions
from cloformer_deploy.data.rendered import CLASSES
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.tasks.classification import LABELED_COUNT, LOGITS, UNLABELED_COUNT
from cloformer_deploy.tasks.statistics import paired_difference_ci95_pp, share_ci95
from tests.tasks.comparing import (
    TASK,
    Labels,
    Logits,
    agreeing,
    classes_as_logits,
    compared,
    evidence,
    lost_and_gained,
    right,
)
from tests.tasks.logits_cases import cases


def array(rows: list[list[float]]) -> Logits:
    return np.asarray(rows, np.float32)


def logits(seed: int, n: int = 200, classes: int = 5) -> Logits:
    return np.random.default_rng(seed).standard_normal((n, classes)).astype(np.float32)


def test_every_precision_has_thresholds() -> None:
    for precision in all_precisions():
        limits = TASK.thresholds(precision)
        assert set(limits) == {"agreement", "sqnr_db", "drop_pp"}
        assert 0.9 <= limits["agreement"] < 1
        assert limits["sqnr_db"] > 10
        assert limits["drop_pp"] > 0


# Counts


@settings(deadline=None, max_examples=25)
@given(cases(), st.integers(1, 5))
def test_batches_do_not_matter(case: tuple[Logits, Logits, Labels], size: int) -> None:
    expected, found, labels = case
    assert compared(expected, found, labels, size) == compared(expected, found, labels)


@settings(deadline=None, max_examples=50)
@given(cases(broken=False, min_classes=2))
def test_figures_are_the_plain_formulas(case: tuple[Logits, Logits, Labels]) -> None:
    expected, values, labels = case
    found = compared(expected, values, labels)
    same = int((expected.argmax(1) == values.argmax(1)).sum())
    before, after = expected.argmax(1) == labels, values.argmax(1) == labels
    assert found.n == len(labels)
    assert found.metric == "top1"
    assert found.agreement == same / found.n
    assert found.agreement_ci95 == share_ci95(same, found.n)
    assert found.agreement_detail == f"the same first class as PyTorch on {same} of {found.n} images"
    assert found.score == after.mean()
    assert compared(expected, expected, labels).score == before.mean()
    lost, gained = lost_and_gained(found)
    assert found.drop_pp == pytest.approx(100 * (before.mean() - after.mean()))
    assert right(found) == before.sum() - lost + gained
    assert found.drop_ci95_pp == paired_difference_ci95_pp(lost, gained, found.n)


def test_figures_by_hand() -> None:
    expected, labels = array([[1, 3], [0, 2]]), np.array([1, 1])
    found = compared(expected, array([[1, 2], [4, 0]]), labels)
    assert found.agreement == 0.5
    assert (compared(expected, expected, labels).score, found.score) == (1, 0.5)
    assert lost_and_gained(found) == (1, 0)
    assert found.drop_pp == 50


def test_a_single_logit_agrees_by_its_sign() -> None:
    found = compared(array([[3], [-4]]), array([[5], [1]]))
    assert found.agreement == 0.5
    assert found.score is None


def test_labels_are_optional() -> None:
    found = compared(array([[1, 2]]), array([[2, 1]]))
    assert (found.n, found.agreement) == (1, 0)
    assert (found.score, found.drop_pp, found.drop_ci95_pp, found.drop_detail) == (None, None, None, "")
    assert found.classes == ()
    assert found.smallest_drop_pp is None
    assert found.images_needed(1.0) is None
    labeled = compared(array([[1, 2]]), array([[2, 1]]), np.array([1]))
    assert (lost_and_gained(labeled), labeled.drop_pp) == ((1, 0), 100)


@pytest.mark.parametrize(
    ("same", "n", "low", "high"),
    # Clopper and Pearson's, as in any table of exact binomial intervals.
    [(10, 10, 0.6915, 1.0), (0, 10, 0.0, 0.3085), (95, 100, 0.8872, 0.9836), (1000, 1000, 0.9963, 1.0)],
)
def test_the_interval_of_agreement_is_exact(same: int, n: int, low: float, high: float) -> None:
    found = compared(classes_as_logits([0] * n, 2), classes_as_logits([0] * same + [1] * (n - same), 2))
    assert found.agreement_ci95 == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_pseudo_targets_make_the_drop_a_fall_of_agreement(classes: list[tuple[int, int]]) -> None:
    before, after = (classes_as_logits(list(side), 5) for side in zip(*classes, strict=True))
    expected, found = evidence(before, before), evidence(after, before)
    targets = TASK.pseudo_targets(expected)
    assert TASK.compare(expected, expected, targets).score == 1
    plain, judged = TASK.compare(expected, found, None), TASK.compare(expected, found, targets)
    assert judged.score == plain.agreement == judged.agreement
    assert judged.drop_pp == pytest.approx(100 * (1 - plain.agreement))


# Images whose logits are not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["expected", "found", "both"])
def test_an_image_that_is_not_finite_disagrees_and_is_never_right(value: float, side: str) -> None:
    good = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    near = good + np.float32(0.125)
    near[:, 0] += np.float32(0.5)
    before = compared(good, near, good.argmax(1))
    expected, values = np.vstack([good, good[:1]]), np.vstack([near, near[:1]])
    label = int(good[0].argmax())
    if side != "found":
        expected[3, (label + 1) % 4] = value
    if side != "expected":
        values[3, (label + 1) % 4] = value
    labels = np.append(good.argmax(1), label)
    found = compared(expected, values, labels)
    assert found.n == 4
    assert agreeing(found) == agreeing(before)
    assert right(found) == right(before)
    lost, gained = lost_and_gained(found)
    assert gained == 0
    # Where PyTorch itself is not finite, there was nothing to lose.
    assert lost == lost_and_gained(before)[0] + (side == "found")
    assert right(compared(expected, expected, labels)) == (4 if side == "found" else 3)


def test_nothing_finite_is_nothing_right() -> None:
    found = compared(array([[1, 2]]), array([[np.nan, 2]]), np.array([1]))
    assert found.sqnr_db is None
    assert found.agreement == 0
    assert found.score == 0
    assert found.drop_pp == 100


def test_images_that_are_not_finite_do_not_agree_with_each_other() -> None:
    broken = array([[np.nan, 2], [1, 2]])
    expected = evidence(broken, broken)
    assert TASK.compare(expected, expected, None).agreement == 0.5
    found = TASK.compare(expected, expected, TASK.pseudo_targets(expected))
    assert (found.score, found.drop_pp, found.drop_detail) == (0.5, 0, "0 lost, 0 gained of 2")


@settings(deadline=None, max_examples=50)
@given(cases(), st.data())
def test_breaking_an_image_never_improves_a_count(case: tuple[Logits, Logits, Labels], data: st.DataObject) -> None:
    expected, values, labels = case
    before = compared(expected, values, labels)
    broken = values.copy()
    row, column = data.draw(st.integers(0, len(values) - 1)), data.draw(st.integers(0, values.shape[1] - 1))
    broken[row, column] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    after = compared(expected, broken, labels)
    assert after.n == before.n
    assert after.non_finite >= before.non_finite
    assert agreeing(after) <= agreeing(before)
    assert right(after) <= right(before)
    (lost, gained), (lost_before, gained_before) = lost_and_gained(after), lost_and_gained(before)
    assert lost >= lost_before
    assert gained <= gained_before
    assert after.drop_pp is not None
    assert before.drop_pp is not None
    assert after.drop_pp >= before.drop_pp


# Classes that changed


def test_a_class_that_lost_is_found_and_others_are_not() -> None:
    n, labels = 600, np.arange(600) % 3
    expected = classes_as_logits(labels.tolist(), 3)
    found = expected.copy()
    spoilt = np.flatnonzero(labels == 1)[:30]
    found[spoilt] = np.eye(3, dtype=np.float32)[2]
    found[0] = np.eye(3, dtype=np.float32)[1]
    first, second = compared(expected, found, labels).classes
    assert (first.index, first.n, first.drop_pp, first.detail) == (1, n // 3, 15, "30 lost, 0 gained of 200")
    assert first.p_value == pytest.approx(2 * 2 * 0.5**30)
    assert (second.index, second.drop_pp, second.p_value) == (0, 0.5, 1.0)
    assert compared(expected, found).classes == ()


@settings(deadline=None, max_examples=50)
@given(cases(min_classes=2))
def test_classes_add_up_to_the_drop(case: tuple[Logits, Logits, Labels]) -> None:
    found = compared(*case)
    lost, gained = lost_and_gained(found)
    assert sum(item.drop_pp * item.n / 100 for item in found.classes) == pytest.approx(lost - gained)
    assert all(item.drop_ci95_pp[0] < item.drop_ci95_pp[1] for item in found.classes)
    assert all(item.n == (case[2] == item.index).sum() for item in found.classes)
    assert list(found.classes) == sorted(found.classes, key=lambda item: (item.p_value, -item.drop_pp))


# Number of images


def test_four_times_the_images_tell_half_the_drop() -> None:
    labels = np.zeros(1000, np.int64)
    expected = classes_as_logits([0] * 1000, 2)
    found = expected.copy()
    found[:20] = found[:20, ::-1]
    few = compared(expected, found, labels)
    many = compared(np.tile(expected, (4, 1)), np.tile(found, (4, 1)), np.tile(labels, 4))
    assert few.smallest_drop_pp is not None
    assert many.smallest_drop_pp is not None
    assert few.smallest_drop_pp == pytest.approx(2 * many.smallest_drop_pp, rel=0.05)
    half, whole = few.images_needed(0.5), few.images_needed(1.0)
    assert half is not None
    assert whole is not None
    assert half == pytest.approx(4 * whole, rel=0.01)
    assert few.images_needed(few.smallest_drop_pp) == pytest.approx(1000, rel=0.05)


# Permuted classes


def diagnosed(expected: Logits, found: Logits, labels: tuple[str, ...] | None = None) -> list[str]:
    return list(TASK.diagnose({LOGITS.name: expected}, {LOGITS.name: found}, labels))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(9)))
def test_a_permutation_is_told_and_the_right_order_is_not(seed: int, order: list[int]) -> None:
    expected = logits(seed, 32, 9)
    said = diagnosed(expected, expected[:, order])
    moved = [column for column in range(9) if order[column] != column]
    if not moved:
        assert said == []
        return
    (sentence,) = said
    shift = -order[0] % 9
    if all((column - order[column]) % 9 == shift for column in range(9)):
        assert sentence.startswith(f"the labels are rotated by {shift}: ")
    elif len(moved) == 2:
        assert sentence.startswith(f"the classes {moved[0]} and {moved[1]} are swapped: ")
    else:
        assert sentence.startswith(f"{len(moved)} classes are permuted: {moved[0]} holds {order[moved[0]]}, ")
    assert "in that order PyTorch agrees on 100 % of 32 images (200.0 dB), in its own PyTorch agrees on" in sentence


def test_permuted_classes_have_their_names_and_at_most_eight_are_listed() -> None:
    expected = logits(0, 32, 12)
    names = tuple(f"class {index}" for index in range(12))
    order = [1, 2, 0, 4, 5, 3, 7, 8, 6, 10, 11, 9]
    (said,) = diagnosed(expected, expected[:, order], names)
    assert said.startswith(
        "12 classes are permuted: class 0 holds class 1, class 1 holds class 2, class 2 holds class 0"
    )
    assert said.count(" holds ") == 8
    assert ", ...: in that order" in said
    (swapped,) = diagnosed(expected, expected[:, [0, 1, 3, 2, *range(4, 12)]], names)
    assert swapped.startswith("the classes class 2 and class 3 are swapped: ")


def test_other_logits_are_no_permutation() -> None:
    assert diagnosed(logits(0, 32, 9), logits(1, 32, 9)) == []
    assert diagnosed(logits(0, 32, 1), logits(1, 32, 1)) == []


# Data


@pytest.mark.parametrize(("labels", "labeled"), [(CLASSES, True), (("a", "b"), False), (None, False)])
def test_without_a_path_the_rendered_test_images_are_taken(labels: tuple[str, ...] | None, labeled: bool) -> None:
    images = TASK.open_data(None, len(CLASSES), labels)
    assert images.name.startswith("rendered test")
    assert len(images) == (LABELED_COUNT if labeled else UNLABELED_COUNT)
    assert (images.labels is not None) == labeled


def test_a_path_gives_its_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "one.png")
    images = TASK.open_data(tmp_path, 2, ("a", "b"))
    assert images.labels is not None
    assert list(images.labels) == [0, 1]


def test_classification_is_registered() -> None:
    task = TASKS["classification"]
    assert (task.name, task.metric, task.class_logits) == ("classification", "top1", "logits")
    assert [output.name for output in task.outputs] == ["logits"]


@pytest.mark.parametrize("classes", [1, 2, 20])
def test_an_offset_of_all_logits_fails_every_precision(classes: int) -> None:
    """A softmax does not see it, and with one logit only the sign does."""
    logits = np.random.default_rng(0).standard_normal((100, classes)).astype(np.float32)
    found = compared(logits, logits + np.float32(5))
    assert found.sqnr_ci95_db is not None
    assert found.sqnr_ci95_db[1] < min(TASK.thresholds(item)["sqnr_db"] for item in ("fp32", "fp16", "int8", "p6"))
    assert (found.agreement == 1) == (classes > 1)
