"""Drift against plain formulas, its invariances, and the interval against hand-computed values and by simulation."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloformer_deploy.validation.drift import SQNR_CEILING_DB, Drift

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def drift(reference: Logits, logits: Logits, labels: Labels | None = None) -> Drift:
    result = Drift()
    result.update(reference, logits, labels)
    return result


def array(rows: Sequence[Sequence[float]]) -> Logits:
    return np.asarray(rows, np.float32)


@st.composite
def cases(draw: st.DrawFn, *, broken: bool = True, min_classes: int = 1) -> tuple[Logits, Logits, Labels]:
    """Reference, logits near to it or far from it, some with NaN or Inf, and labels."""
    images, classes = draw(st.integers(1, 12)), draw(st.integers(min_classes, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    reference = rng.normal(0, draw(st.sampled_from([0.01, 1.0, 100.0])), (images, classes)).astype(np.float32)
    noise = draw(st.sampled_from([0.0, 1e-4, 0.3, 30.0]))
    logits = (reference + rng.normal(0, noise, reference.shape)).astype(np.float32)
    if broken:
        for side in (reference, logits):
            for row in draw(st.sets(st.integers(0, images - 1), max_size=2)):
                side[row, draw(st.integers(0, classes - 1))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return reference, logits, rng.integers(0, classes, images)


# Figures


@settings(deadline=None)
@given(cases(), st.integers(1, 5))
def test_batch_by_batch_is_the_same_as_at_once(case: tuple[Logits, Logits, Labels], size: int) -> None:
    reference, logits, labels = case
    whole = asdict(drift(reference, logits, labels))
    parts = Drift()
    for first in range(0, len(logits), size):
        batch = slice(first, first + size)
        parts.update(reference[batch], logits[batch], labels[batch])
    found = asdict(parts)
    for name, value in whole.items():
        assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name
    assert parts.sqnr_db == pytest.approx(drift(reference, logits, labels).sqnr_db, abs=1e-6)


@settings(deadline=None)
@given(cases(broken=False, min_classes=2))
def test_the_figures_are_the_plain_formulas(case: tuple[Logits, Logits, Labels]) -> None:
    reference, logits, labels = case
    found = drift(reference, logits, labels)
    exact, other = reference.astype(np.float64), logits.astype(np.float64)
    assert found.n == found.labeled == len(labels)
    assert found.non_finite == 0
    assert found.measured
    assert found.top1_agreement == np.mean(exact.argmax(1) == other.argmax(1))
    assert found.max_abs_diff == np.abs(exact - other).max()
    assert found.reference_correct == (exact.argmax(1) == labels).sum()
    assert found.correct == (other.argmax(1) == labels).sum()
    accuracy_before, accuracy_after = found.reference_correct / found.n, found.correct / found.n
    assert found.top1_drop_pp == pytest.approx(100 * (accuracy_before - accuracy_after))
    assert found.correct == found.reference_correct - found.lost + found.gained

    centered = [row - row.mean() for row in exact]
    centred_other = [row - row.mean() for row in other]
    signal = sum(float(row @ row) for row in centered)
    noise = sum(float((row - o) @ (row - o)) for row, o in zip(centered, centred_other, strict=True))
    expected = min(10 * math.log10(signal / noise), SQNR_CEILING_DB) if noise else SQNR_CEILING_DB
    assert found.sqnr_db == pytest.approx(expected, abs=1e-6)
    cosines = [
        float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for a, b in zip(centered, centred_other, strict=True)
    ]
    assert found.cosine_min == pytest.approx(min(cosines), abs=1e-9)


def test_the_figures_by_hand() -> None:
    found = drift(array([[1, 3], [0, 2]]), array([[1, 2], [4, 0]]), np.array([1, 1]))
    # Centered: (-1, 1) against (-0.5, 0.5), and (-1, 1) against (2, -2): signal 2 + 2, noise 0.5 + 18.
    assert found.sqnr_db == pytest.approx(10 * math.log10(4 / 18.5))
    assert found.cosine_min == pytest.approx(-1)
    assert found.max_abs_diff == 4
    assert found.top1_agreement == 0.5
    assert (found.reference_correct, found.correct, found.lost, found.gained) == (2, 1, 1, 0)
    assert found.top1_drop_pp == 50


def test_sqnr_is_pooled_not_averaged() -> None:
    """One noisy image of small logits does not outweigh a clean one of large ones."""
    found = drift(array([[100, -100], [1, -1]]), array([[100, -100], [2, -2]]))
    assert found.sqnr_db == pytest.approx(10 * math.log10(20002 / 2))


# Numbers with few bits, so that the shifts are exact in float32.
exact_logits = st.lists(
    st.lists(st.integers(-(2**10), 2**10).map(lambda value: value / 64), min_size=4, max_size=4),
    min_size=1,
    max_size=6,
)


@given(exact_logits, st.data())
def test_a_constant_added_to_all_logits_of_a_image_changes_neither_sqnr_nor_cosine(
    rows: list[list[float]], data: st.DataObject
) -> None:
    reference = array(rows)
    logits = array(data.draw(exact_logits.filter(lambda other: len(other) >= len(rows))))[: len(rows)]
    shifts = st.lists(st.integers(-512, 512), min_size=len(rows), max_size=len(rows))
    shift, other_shift = (array([data.draw(shifts)]).T for _ in range(2))
    plain, shifted = drift(reference, logits), drift(reference + shift, logits + other_shift)
    assert shifted.sqnr_db == pytest.approx(plain.sqnr_db, abs=1e-9)
    assert shifted.cosine_min == pytest.approx(plain.cosine_min, abs=1e-9)
    assert shifted.top1_agreement == plain.top1_agreement


def test_a_constant_still_shows_in_the_largest_difference() -> None:
    reference = array([[1, 2, 3]])
    assert drift(reference, reference + 5).max_abs_diff == 5


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_identical_logits_reach_the_ceiling(scale: float) -> None:
    reference = (np.random.default_rng(0).normal(size=(9, 7)) * scale).astype(np.float32)
    found = drift(reference, reference.copy())
    assert found.sqnr_db == SQNR_CEILING_DB
    assert found.cosine_min == pytest.approx(1, abs=1e-12)
    assert found.max_abs_diff == 0
    assert found.top1_agreement == 1


def test_the_ceiling_is_never_exceeded() -> None:
    reference = array([[1e30, -1e30]])
    assert drift(np.vstack([reference, [[0, 1]]]), np.vstack([reference, [[0, 1.0000001]]])).sqnr_db == SQNR_CEILING_DB


def test_a_single_class_has_nothing_to_disagree_about() -> None:
    found = drift(array([[3], [4]]), array([[5], [-1]]), np.array([0, 0]))
    assert found.top1_agreement == 1
    assert found.sqnr_db == SQNR_CEILING_DB
    assert found.cosine_min == 1
    assert found.max_abs_diff == 5
    assert found.top1_drop_pp == 0


@pytest.mark.parametrize("constant", [0.0, 0.1, 7.0])
def test_constant_logits_are_not_taken_for_a_good_direction(constant: float) -> None:
    """A dead artifact, in whose logits nothing of the image is left."""
    reference = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    dead = np.full_like(reference, constant)
    found = drift(reference, dead)
    assert found.cosine_min == pytest.approx(0, abs=1e-6)
    assert found.sqnr_db == pytest.approx(0, abs=1e-6)
    assert drift(dead, reference).cosine_min == pytest.approx(0, abs=1e-6)


def test_noise_on_a_constant_reference_is_the_floor() -> None:
    found = drift(array([[2, 2]]), array([[1, 3]]))
    assert found.sqnr_db == -SQNR_CEILING_DB
    assert found.cosine_min == 0


# ImageSet that are not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["reference", "logits", "both"])
def test_a_image_that_is_not_finite_disagrees_and_is_left_out_of_distances(value: float, side: str) -> None:
    good = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    near = good + np.float32(0.125)
    near[:, 0] += np.float32(0.5)
    before = drift(good, near, good.argmax(1))
    reference, logits = np.vstack([good, good[:1]]), np.vstack([near, near[:1]])
    if side != "logits":
        reference[3, int(good[0].argmax())] = value
    if side != "reference":
        logits[3, int(good[0].argmax())] = value
    found = drift(reference, logits, reference[:, :].argmax(1))
    assert (found.n, found.non_finite) == (4, 1)
    assert found.agreeing == before.agreeing
    assert found.correct == before.correct
    assert found.gained == 0
    assert found.lost == before.lost + 1
    assert found.sqnr_db == before.sqnr_db
    assert found.cosine_min == before.cosine_min
    assert found.max_abs_diff == before.max_abs_diff


def test_nothing_finite_is_nothing_measured() -> None:
    found = drift(array([[1, 2]]), array([[math.nan, 2]]), np.array([1]))
    assert not found.measured
    assert found.top1_agreement == 0
    assert found.correct == 0
    assert found.top1_drop_pp == 100


@settings(deadline=None)
@given(cases(), st.data())
def test_breaking_a_image_never_improves_a_count(case: tuple[Logits, Logits, Labels], data: st.DataObject) -> None:
    reference, logits, labels = case
    before = drift(reference, logits, labels)
    broken = logits.copy()
    row, column = data.draw(st.integers(0, len(logits) - 1)), data.draw(st.integers(0, logits.shape[1] - 1))
    broken[row, column] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    after = drift(reference, broken, labels)
    assert after.n == before.n
    assert after.reference_correct == before.reference_correct
    assert after.non_finite >= before.non_finite
    assert after.agreeing <= before.agreeing
    assert after.correct <= before.correct
    assert after.lost >= before.lost
    assert after.gained <= before.gained
    assert after.top1_drop_pp >= before.top1_drop_pp


def test_labels_are_optional_batch_by_batch() -> None:
    found = drift(array([[1, 2]]), array([[1, 2]]))
    assert (found.n, found.labeled) == (1, 0)
    found.update(array([[1, 2]]), array([[2, 1]]), np.array([1]))
    assert (found.n, found.labeled, found.lost) == (2, 1, 1)
    assert found.top1_drop_pp == 100


# The interval


def paired(n: int, lost: int, gained: int) -> Drift:
    return Drift(n=n, labeled=n, lost=lost, gained=gained)


# With z = 1.959964, p = (lost + 1) / (n + 2), q = (gained + 1) / (n + 2):
# p - q -+ z * sqrt((p + q - (p - q)**2) / (n + 2)), worked out by hand.
@pytest.mark.parametrize(
    ("n", "lost", "gained", "low", "high"),
    [
        (98, 0, 0, -2.771808, 2.771808),  # 1.959964 * sqrt(0.02 / 100)
        (98, 9, 3, -1.238613, 13.238613),  # 0.06 -+ 1.959964 * sqrt((0.14 - 0.0036) / 100)
        (998, 49, 29, 0.251343, 3.748657),  # 0.02 -+ 1.959964 * sqrt((0.08 - 0.0004) / 1000)
        (2, 2, 0, -34.868930, 100.0),  # 0.5 -+ 1.959964 * sqrt((1 - 0.25) / 4), and no more than everything
    ],
)
def test_the_interval_by_hand(n: int, lost: int, gained: int, low: float, high: float) -> None:
    assert paired(n, lost, gained).top1_drop_ci95_pp() == pytest.approx((low, high), abs=2e-6)


counts = st.tuples(st.integers(1, 2000), st.integers(0, 2000), st.integers(0, 2000))


@given(counts)
def test_the_interval_surrounds_the_adjusted_difference_and_mirrors(case: tuple[int, int, int]) -> None:
    n, lost, gained = case
    assume(lost + gained <= n)
    low, high = paired(n, lost, gained).top1_drop_ci95_pp()
    assert -100 <= low < 100 * (lost - gained) / (n + 2) < high <= 100
    assert paired(n, gained, lost).top1_drop_ci95_pp() == pytest.approx((-high, -low))
    # It holds the plain difference too, unless nearly all images changed sides.
    if lost + gained <= n // 2:
        assert low <= paired(n, lost, gained).top1_drop_pp <= high


@given(st.integers(2, 300), st.integers(0, 10), st.integers(0, 10), st.integers(2, 20))
def test_more_images_of_the_same_kind_narrow_the_interval(n: int, lost: int, gained: int, times: int) -> None:
    assume(lost + gained <= n)
    few, many = (paired(n * k, lost * k, gained * k).top1_drop_ci95_pp() for k in (1, times))
    assert many[1] - many[0] < few[1] - few[0]


@pytest.mark.parametrize("n", [200, 392, 1000])
@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.02), (0.03, 0.01), (0.05, 0.02), (0.15, 0.1), (0.3, 0.05)])
def test_the_interval_covers_the_true_difference_95_times_in_100(n: int, lost: float, gained: float) -> None:
    drawn: Any = np.random.default_rng(7).multinomial(n, [lost, gained, 1 - lost - gained], size=4000)
    outcomes, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    covered = 0
    for (was_lost, was_gained), count in zip(outcomes.tolist(), times.tolist(), strict=True):
        low, high = paired(n, was_lost, was_gained).top1_drop_ci95_pp()
        covered += count * (low <= 100 * (lost - gained) <= high)
    assert 0.935 <= covered / 4000 <= 0.99
