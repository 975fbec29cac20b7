"""Statistics over images: intervals cover what they should, and classes that lost are found."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloformer_deploy.validation.paired import Paired


def logits(seed: int, n: int = 200, classes: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, classes)).astype(np.float32)


def paired(
    expected: NDArray[np.float32], found: NDArray[np.float32], labels: NDArray[np.int64] | None = None, batch: int = 16
) -> Paired:
    drift = Paired()
    for first in range(0, len(expected), batch):
        part = slice(first, first + batch)
        drift.update(expected[part], found[part], None if labels is None else labels[part])
    return drift


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 40))
def test_batches_do_not_matter(seed: int, n: int, batch: int) -> None:
    expected, found = logits(seed, n), logits(seed + 1, n)
    labels = np.random.default_rng(seed).integers(0, 5, n)
    whole, parts = paired(expected, found, labels, n), paired(expected, found, labels, batch)
    assert np.array_equal(np.concatenate(whole.agrees), np.concatenate(parts.agrees))
    assert np.array_equal(np.concatenate(whole.right), np.concatenate(parts.right))
    assert whole.agreeing == np.concatenate(whole.agrees).sum()
    assert whole.correct == np.concatenate(whole.right).sum()
    assert math.isclose(whole.kl_divergence, parts.kl_divergence, rel_tol=1e-9, abs_tol=1e-12)
    assert list(whole.classes()) == list(parts.classes())


def test_the_divergence_is_kullback_and_leibler_s() -> None:
    p, q = np.array([[0.7, 0.2, 0.1]]), np.array([[0.5, 0.25, 0.25]])
    drift = paired(np.log(p).astype(np.float32) + 3, np.log(q).astype(np.float32) - 1)
    assert math.isclose(drift.kl_divergence, float((p * np.log(p / q)).sum()), rel_tol=1e-5)
    assert paired(logits(0), logits(0)).kl_divergence == 0


@pytest.mark.parametrize(
    ("agreeing", "n", "low", "high"),
    # Clopper and Pearson's, as any table of exact binomial intervals has them.
    [(10, 10, 0.6915, 1.0), (0, 10, 0.0, 0.3085), (95, 100, 0.8872, 0.9836), (1000, 1000, 0.9963, 1.0)],
)
def test_the_interval_of_agreement_is_exact(agreeing: int, n: int, low: float, high: float) -> None:
    expected = np.zeros((n, 2), np.float32)
    expected[:, 0] = 1
    found = expected.copy()
    found[agreeing:] = found[agreeing:, ::-1]
    assert paired(expected, found).agreement_ci95() == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_sqnr_covers_what_many_images_give() -> None:
    rng = np.random.default_rng(3)

    def sample(n: int) -> Paired:
        expected = rng.standard_normal((n, 10)).astype(np.float32) * rng.uniform(0.5, 2, (n, 1)).astype(np.float32)
        return paired(expected, expected + 0.05 * rng.standard_normal((n, 10)).astype(np.float32))

    truth = sample(20_000).sqnr_db
    covered = [low <= truth <= high for low, high in (sample(100).sqnr_ci95_db() for _ in range(60))]
    assert 50 <= sum(covered) <= 60


def test_equal_logits_have_an_interval_of_no_width() -> None:
    assert paired(logits(0), logits(0)).sqnr_ci95_db() == (200.0, 200.0)
    assert paired(logits(0, 1), logits(1, 1)).sqnr_ci95_db()[0] < 10


def test_a_class_that_lost_is_found_and_others_are_not() -> None:
    n, labels = 600, np.arange(600) % 3
    expected = np.eye(3, dtype=np.float32)[labels]
    found = expected.copy()
    spoilt = np.flatnonzero(labels == 1)[:30]
    found[spoilt] = np.eye(3, dtype=np.float32)[2]
    found[0] = np.eye(3, dtype=np.float32)[1]
    first, second = paired(expected, found, labels).classes()
    assert (first.index, first.n, first.lost, first.gained) == (1, n // 3, 30, 0)
    assert first.p_value == pytest.approx(2 * 2 * 0.5**30)
    assert (second.index, second.lost, second.p_value) == (0, 1, 1.0)
    assert list(paired(expected, found).classes()) == []


def test_the_first_image_without_a_number_is_told() -> None:
    found = logits(0, 40)
    found[[23, 30], 1] = np.nan
    drift = paired(logits(0, 40), found)
    assert (drift.first_non_finite, drift.non_finite, drift.agreeing) == (23, 2, 38)
    assert not np.concatenate(drift.agrees)[[23, 30]].any()


def test_four_times_the_images_tell_half_the_drop() -> None:
    labels = np.zeros(1000, np.int64)
    expected = np.eye(2, dtype=np.float32)[labels]
    found = expected.copy()
    found[:20] = found[:20, ::-1]
    few = paired(expected, found, labels)
    many = paired(np.tile(expected, (4, 1)), np.tile(found, (4, 1)), np.tile(labels, 4))
    assert few.smallest_drop_pp() == pytest.approx(2 * many.smallest_drop_pp(), rel=0.05)
    assert few.images_for(0.5) == pytest.approx(4 * few.images_for(1.0), rel=0.01)
    assert few.images_for(few.smallest_drop_pp()) == pytest.approx(1000, rel=0.05)
