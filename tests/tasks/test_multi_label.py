"""Multi-label scores: absolute logits, and the decision on every class."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloformer_deploy.tasks import takes_sigmoid, task_of
from cloformer_deploy.tasks.base import Scores
from cloformer_deploy.tasks.classification import Classification
from cloformer_deploy.tasks.distances import image_distances, summarize
from cloformer_deploy.tasks.multi_label import ABSOLUTE_LOGITS, MultiLabel
from cloformer_deploy.tasks.statistics import mean_share_ci95, share_ci95

TASK = MultiLabel()
Logits = NDArray[np.float32]


class Described:
    task = "classification"
    architecture: Mapping[str, Any] = {}

    def __init__(self, scores: Scores) -> None:
        self.scores: Scores = scores


def logits(seed: int, n: int = 50, classes: int = 5) -> Logits:
    return np.random.default_rng(seed).standard_normal((n, classes)).astype(np.float32) - 1


def agreement(expected: Logits, found: Logits) -> float:
    before, after = ({"logits": each} for each in (expected, found))
    return TASK.compare(TASK.evidence(before, before), TASK.evidence(after, before), None).agreement


def test_the_scores_tell_the_task() -> None:
    assert isinstance(task_of(Described("sigmoid")), MultiLabel)
    assert type(task_of(Described("softmax"))) is Classification
    assert takes_sigmoid("classification")
    assert not takes_sigmoid("features")
    assert (TASK.name, TASK.metric, TASK.class_logits) == ("classification", None, "logits")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(-3, 3))
def test_agreement_is_the_share_of_equal_signs(seed: int, offset: float) -> None:
    expected = logits(seed)
    found = expected + np.float32(offset)
    assert agreement(expected, found) == pytest.approx(((expected > 0) == (found > 0)).mean())


def test_an_offset_shows_where_a_softmax_would_not_see_it() -> None:
    expected = logits(0)
    found = expected + np.float32(5)
    assert (expected.argmax(axis=1) == found.argmax(axis=1)).all()
    assert agreement(expected, found) < 0.3
    db = summarize(image_distances({"logits": expected}, {"logits": found}, (ABSOLUTE_LOGITS,))).sqnr_db
    assert db is not None
    energy = float((expected.astype(np.float64) ** 2).mean())
    assert db == pytest.approx(10 * math.log10(energy / 25), abs=1e-3)
    assert any("moved by +5.00" in text for text in TASK.diagnose({"logits": expected}, {"logits": found}, None))
    assert list(TASK.diagnose({"logits": expected}, {"logits": expected}, None)) == []


def test_nan_is_no_decision() -> None:
    expected = logits(0, n=4)
    found = expected.copy()
    found[2, 1] = np.nan
    assert agreement(expected, found) == 0.75


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200), st.data())
def test_the_interval_of_whole_shares_is_that_of_a_count(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    found = mean_share_ci95([1.0] * count + [0.0] * (n - count))
    assert found == pytest.approx(share_ci95(count, n), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=100))
def test_the_interval_holds_the_mean(shares: list[float]) -> None:
    low, high = mean_share_ci95(shares)
    assert 0 <= low <= math.fsum(shares) / len(shares) + 1e-9
    assert math.fsum(shares) / len(shares) - 1e-9 <= high <= 1
