"""The schedule, the learning rate, and settings that cannot be used."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloformer_deploy.errors import RequestError
from tests.tools.samples import tiny_recipe
from tools.training.recipe import Stage, parse_schedule

SIDES = st.integers(1, 20).map(lambda n: 32 * n)
STAGES = st.lists(
    st.builds(Stage, st.tuples(SIDES, SIDES), st.integers(1, 400).map(lambda n: n / 8)),
    min_size=1,
    max_size=4,
)


def test_a_schedule_is_read() -> None:
    assert parse_schedule("256x352:2") == (Stage((256, 352), 2),)
    assert parse_schedule("64:15,224:1.7") == (Stage((64, 64), 15), Stage((224, 224), 1.7))


@settings(deadline=None)
@given(STAGES)
def test_a_schedule_written_is_read_as_it_was(stages: list[Stage]) -> None:
    assert parse_schedule(",".join(map(str, stages))) == tuple(stages)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "64",
        "64:",
        ":1",
        "64:1,",
        "a:1",
        "64x:1x",
        "64x65:1",
        "32x32x32:1",
        "64:b",
        "64:1:2",
        "50:1",
        "0:1",
        "-32:1",
        "64:0",
        "64:nan",
        "64:inf",
    ],
)
def test_a_schedule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_schedule(text)
    assert "px:epochs" in caught.value.hint


@settings(deadline=None)
@given(STAGES, st.integers(1, 16))
def test_stages_follow_one_another_and_round_once(stages: list[Stage], batch: int) -> None:
    recipe = tiny_recipe(schedule=tuple(stages), batch=batch)
    ends = recipe.stage_ends
    assert list(ends) == sorted(ends)
    assert recipe.steps == ends[-1] == max(1, round(sum(stage.epochs for stage in stages) * recipe.steps_per_epoch))


@settings(deadline=None)
@given(STAGES, st.floats(1e-6, 1))
def test_the_learning_rate_rises_to_its_peak_then_falls(stages: list[Stage], peak: float) -> None:
    recipe = tiny_recipe(schedule=tuple(stages), peak_lr=peak)
    rates = [recipe.learning_rate(step) for step in range(recipe.steps)]
    top = rates.index(max(rates))
    assert math.isclose(rates[top], peak)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0


def test_the_learning_rate_warms_up_over_a_twentieth_and_ends_near_0() -> None:
    recipe = tiny_recipe(schedule=(Stage((32, 32), 100),), peak_lr=1.0)
    assert recipe.steps == 400
    assert recipe.learning_rate(0) == 1 / 20
    assert recipe.learning_rate(19) == recipe.learning_rate(20) == 1
    assert recipe.learning_rate(210) == pytest.approx(0.5)
    assert 0 < recipe.learning_rate(399) < 1e-4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch", 0),
        ("batch", 17),
        ("peak_lr", 0.0),
        ("peak_lr", math.nan),
        ("crop_area", 0.0),
        ("crop_area", 1.1),
        ("augmentation", -1.0),
        ("ema", 1.0),
        ("sharpen", 0.0),
        ("seed", -1),
    ],
)
def test_a_setting_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(RequestError, match=name):
        tiny_recipe(**{name: value})


def test_the_fingerprint_is_plain_data() -> None:
    fingerprint = tiny_recipe().fingerprint()
    assert json.loads(json.dumps(fingerprint)) == fingerprint
    assert fingerprint["schedule"] == "32:2,64:0.5"
