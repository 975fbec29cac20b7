"""Test numerical distances against plain formulas and by their invariances."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloformer_deploy.tasks import Comparison, Output
from cloformer_deploy.tasks.distances import (
    SQNR_CEILING_DB,
    finite_images,
    image_distances,
    sqnr_db,
    summarize,
)
from cloformer_deploy.tasks.distances import (
    compared as compared_values,
)
from tests.tasks.comparing import Labels, Logits, compared
from tests.tasks.logits_cases import cases


def array(rows: Sequence[Sequence[float]]) -> Logits:
    return np.asarray(rows, np.float32)


def logits(seed: int, n: int = 200, classes: int = 5) -> Logits:
    return np.random.default_rng(seed).standard_normal((n, classes)).astype(np.float32)


# Figures


@settings(deadline=None)
@given(cases(), st.integers(1, 5))
def test_image_distances_do_not_depend_on_batches(case: tuple[Logits, Logits, Labels], size: int) -> None:
    reference, found, _ = case
    outputs, expected = {"logits": found}, {"logits": reference}
    specs = (Output("logits", ("batch", "classes"), "", centered=True),)
    parts: list[bytes] = []
    for first in range(0, len(found), size):
        batch = slice(first, first + size)
        parts += image_distances({"logits": reference[batch]}, {"logits": found[batch]}, specs)
    whole = image_distances(expected, outputs, specs)
    np.testing.assert_allclose(
        np.stack([np.frombuffer(row) for row in parts]), np.stack([np.frombuffer(row) for row in whole]), rtol=1e-12
    )


@settings(deadline=None, max_examples=50)
@given(cases(broken=False, min_classes=2))
def test_figures_are_the_plain_formulas(case: tuple[Logits, Logits, Labels]) -> None:
    reference, values, labels = case
    found = compared(reference, values)
    exact, other = reference.astype(np.float64), values.astype(np.float64)
    assert found.n == len(labels)
    assert found.non_finite == 0
    assert found.first_non_finite is None
    assert found.max_abs_diff == np.abs(exact - other).max()

    centered = [row - row.mean() for row in exact]
    centered_other = [row - row.mean() for row in other]
    signal = sum(float(row @ row) for row in centered)
    noise = float(((exact - other) ** 2).sum())
    expected = min(10 * math.log10(signal / noise), SQNR_CEILING_DB) if noise else SQNR_CEILING_DB
    assert found.sqnr_db == pytest.approx(expected, abs=1e-6)
    cosines = [
        float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for a, b in zip(centered, centered_other, strict=True)
    ]
    assert found.cosine_min == pytest.approx(min(cosines), abs=1e-9)


def test_figures_by_hand() -> None:
    found = compared(array([[1, 3], [0, 2]]), array([[1, 2], [4, 0]]))
    # Centered, the signal is (-1, 1) twice: 2 + 2. The noise is (0, -1) and (4, -2): 1 + 20.
    assert found.sqnr_db == pytest.approx(10 * math.log10(4 / 21))
    assert found.cosine_min == pytest.approx(-1)
    assert found.max_abs_diff == 4


def test_sqnr_is_pooled_not_averaged() -> None:
    """One noisy image of small logits does not outweigh a clean one of large ones."""
    found = compared(array([[100, -100], [1, -1]]), array([[100, -100], [2, -2]]))
    assert found.sqnr_db == pytest.approx(10 * math.log10(20002 / 2))


# Numbers with few bits, so that the shifts are exact in float32.
exact_logits = st.lists(
    st.lists(st.integers(-(2**10), 2**10).map(lambda value: value / 64), min_size=4, max_size=4),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=50)
@given(exact_logits, st.data())
def test_a_constant_added_to_all_logits_on_both_sides_changes_neither_sqnr_nor_cosine(
    rows: list[list[float]], data: st.DataObject
) -> None:
    reference = array(rows)
    values = array(data.draw(exact_logits.filter(lambda other: len(other) >= len(rows))))[: len(rows)]
    shift = array([data.draw(st.lists(st.integers(-512, 512), min_size=len(rows), max_size=len(rows)))]).T
    plain, shifted = compared(reference, values), compared(reference + shift, values + shift)
    assert shifted.sqnr_db == pytest.approx(plain.sqnr_db, abs=1e-9)
    assert shifted.cosine_min == pytest.approx(plain.cosine_min, abs=1e-9)
    assert shifted.agreement == plain.agreement


def test_a_constant_added_on_one_side_is_noise() -> None:
    reference = array([[1, 2, 3]])
    found = compared(reference, reference + 5)
    assert found.max_abs_diff == 5
    assert found.sqnr_db == pytest.approx(10 * math.log10(2 / 75))
    assert found.cosine_min == pytest.approx(1)


@pytest.mark.parametrize(
    "damaged", [lambda logit: -logit, np.zeros_like, lambda logit: logit + 5], ids=["sign", "zeroed", "offset"]
)
def test_a_single_logit_shows_its_faults(damaged: Callable[[Logits], Logits]) -> None:
    reference = logits(0, classes=1)
    found = compared(reference, damaged(reference))
    assert found.sqnr_db is not None
    assert found.sqnr_db < 1
    assert found.agreement < 0.6
    assert compared(reference, reference).agreement == 1


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_identical_logits_reach_the_ceiling(scale: float) -> None:
    reference = (np.random.default_rng(0).normal(size=(9, 7)) * scale).astype(np.float32)
    found = compared(reference, reference.copy())
    assert found.sqnr_db == SQNR_CEILING_DB
    assert found.cosine_min == pytest.approx(1, abs=1e-12)
    assert found.max_abs_diff == 0
    assert found.agreement == 1


def test_the_ceiling_is_never_exceeded() -> None:
    reference = array([[1e30, -1e30]])
    near = compared(np.vstack([reference, [[0, 1]]]), np.vstack([reference, [[0, 1.0000001]]]))
    assert near.sqnr_db == SQNR_CEILING_DB


@given(st.floats(0, allow_nan=False), st.floats(0, allow_nan=False))
def test_sqnr_of_two_energies_is_their_ratio_within_the_ceiling(signal: float, noise: float) -> None:
    found = sqnr_db(signal, noise)
    assert -SQNR_CEILING_DB <= found <= SQNR_CEILING_DB
    if 0 < signal < math.inf and 0 < noise < math.inf and abs(found) < SQNR_CEILING_DB:
        assert found == pytest.approx(10 * (math.log10(signal) - math.log10(noise)), abs=1e-6)


@pytest.mark.parametrize(
    ("signal", "noise"), [(math.nan, 1.0), (1.0, math.nan), (math.nan, 0.0), (1.0, math.inf), (0.0, 1.0)]
)
def test_sqnr_of_nan_and_of_noise_alone_is_the_floor(signal: float, noise: float) -> None:
    assert sqnr_db(signal, noise) == -SQNR_CEILING_DB


def test_a_single_logit_is_its_own_signal() -> None:
    found = compared(array([[3], [4]]), array([[5], [-1]]))
    assert found.sqnr_db == pytest.approx(10 * math.log10(25 / 29))
    assert found.cosine_min == -1
    assert found.max_abs_diff == 5


@pytest.mark.parametrize("constant", [0.0, 0.1, 7.0])
def test_constant_logits_have_cosine_zero(constant: float) -> None:
    """An artifact with constant logits does not depend on the image."""
    reference = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    dead = np.full_like(reference, constant)
    found = compared(reference, dead)
    assert found.cosine_min == pytest.approx(0, abs=1e-6)
    assert found.sqnr_db is not None
    assert found.sqnr_db < 1
    assert compared(dead, reference).cosine_min == pytest.approx(0, abs=1e-6)


def test_noise_on_a_constant_reference_is_the_floor() -> None:
    found = compared(array([[2, 2]]), array([[1, 3]]))
    assert found.sqnr_db == -SQNR_CEILING_DB
    assert found.cosine_min == 0


# Images whose outputs are not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["reference", "found", "both"])
def test_an_image_that_is_not_finite_has_no_distances_and_is_counted(value: float, side: str) -> None:
    good = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    near = good + np.float32(0.125)
    near[:, 0] += np.float32(0.5)
    before = compared(good, near)
    reference, values = np.vstack([good, good[:1]]), np.vstack([near, near[:1]])
    if side != "found":
        reference[3, 1] = value
    if side != "reference":
        values[3, 1] = value
    found = compared(reference, values)
    # Each side's count is its own: PyTorch's is that of PyTorch compared with itself.
    assert (found.n, found.non_finite) == (4, int(side != "reference"))
    assert compared(reference, reference).non_finite == int(side != "found")
    assert found.sqnr_db == before.sqnr_db
    assert found.sqnr_ci95_db == before.sqnr_ci95_db
    assert found.cosine_min == before.cosine_min
    assert found.max_abs_diff == before.max_abs_diff


def test_without_finite_images_nothing_is_measured() -> None:
    found = compared(array([[1, 2]]), array([[math.nan, 2]]))
    assert (found.max_abs_diff, found.sqnr_db, found.sqnr_ci95_db, found.cosine_min) == (None, None, None, None)
    assert (found.non_finite, found.first_non_finite) == (1, 0)


def test_the_first_image_with_nan_is_told() -> None:
    values = logits(0, 40)
    values[[23, 30], 1] = np.nan
    found = compared(logits(0, 40), values, batch=16)
    assert (found.first_non_finite, found.non_finite) == (23, 2)


# Several outputs of several axes

MAP, BOXES = (
    Output("map", ("batch", "classes", "rows", "columns"), "", centered=True),
    Output("boxes", ("batch", "n", "4"), ""),
)


def test_the_worst_output_counts_and_only_those_marked_are_centered() -> None:
    rng = np.random.default_rng(0)
    expected = {
        "map": rng.standard_normal((3, 4, 2, 5)).astype(np.float32),
        "boxes": rng.standard_normal((3, 6, 4)).astype(np.float32),
    }
    found = {
        name: value + np.float32(0.1) * rng.standard_normal(value.shape, np.float32) for name, value in expected.items()
    }
    found["map"] = found["map"] + rng.standard_normal((3, 1, 2, 5), np.float32)
    figures = summarize(image_distances(expected, found, (MAP, BOXES)))

    def plain(side: dict[str, Logits]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        wide = side["map"].astype(np.float64)
        wide = wide - wide.mean(axis=1, keepdims=True)
        return np.concatenate([wide.reshape(3, -1), side["boxes"].astype(np.float64).reshape(3, -1)], axis=1)

    before, after = plain(expected), plain(found)
    np.testing.assert_array_equal(compared_values(expected, (MAP, BOXES)), before)
    ratios, cosines = [], []
    for name, columns in (("map", slice(0, 40)), ("boxes", slice(40, None))):
        ours, theirs = before[:, columns], after[:, columns]
        noise = float(((expected[name].astype(np.float64) - found[name]) ** 2).sum())
        ratios.append(10 * math.log10(float((ours**2).sum()) / noise))
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosines.append(float(((ours * theirs).sum(axis=1) / norms).min()))
    assert figures.sqnr_db == pytest.approx(min(ratios))
    assert figures.cosine_min == pytest.approx(min(cosines))
    raw = max(float(np.abs(expected[name].astype(np.float64) - found[name]).max()) for name in expected)
    assert figures.max_abs_diff == raw


def test_one_nan_in_any_output_makes_an_image_not_finite() -> None:
    outputs = {"map": np.zeros((3, 4, 2, 5), np.float32), "boxes": np.zeros((3, 6, 4), np.float32)}
    outputs["map"][0, 1, 1, 3] = np.inf
    outputs["boxes"][2, 5, 0] = np.nan
    assert finite_images(outputs, (MAP, BOXES)).tolist() == [False, True, False]


# The interval of the SQNR


@pytest.mark.integration
def test_interval_of_sqnr_covers_the_sqnr_of_many_images() -> None:
    rng = np.random.default_rng(3)

    def sample(n: int) -> Comparison:
        expected = rng.standard_normal((n, 10)).astype(np.float32) * rng.uniform(0.5, 2, (n, 1)).astype(np.float32)
        return compared(expected, expected + 0.05 * rng.standard_normal((n, 10)).astype(np.float32))

    truth = sample(20_000).sqnr_db
    assert truth is not None
    intervals = [sample(100).sqnr_ci95_db for _ in range(60)]
    covered = [interval is not None and interval[0] <= truth <= interval[1] for interval in intervals]
    assert 50 <= sum(covered) <= 60


def test_equal_logits_have_an_interval_of_no_width() -> None:
    assert compared(logits(0), logits(0)).sqnr_ci95_db == (200.0, 200.0)
    single = compared(logits(0, 1), logits(1, 1)).sqnr_ci95_db
    assert single is not None
    assert single[0] < 10
