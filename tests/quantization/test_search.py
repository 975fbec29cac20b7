"""The search under an accuracy limit: what it finds, and that it never takes more evaluations than it may."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloformer_deploy.quantization.search import Outcome, largest_cost, search

NOISES = st.lists(st.floats(0, 10), min_size=1, max_size=24)


class Model:
    """Blocks whose errors add up, and a count of what was asked of them."""

    def __init__(self, noises: list[float]) -> None:
        self.noises: Mapping[str, float] = {f"block{index}": noise for index, noise in enumerate(noises)}
        self.evaluated: list[tuple[str, ...]] = []
        self.measured: list[str] = []

    def evaluate(self, excluded_layers: tuple[str, ...]) -> float:
        self.evaluated.append(excluded_layers)
        return sum(noise for block, noise in self.noises.items() if block not in excluded_layers)

    def measure(self, block: str) -> float:
        self.measured.append(block)
        return self.noises[block]

    def search(self, limit: float, budget: int) -> Outcome:
        return search(list(self.noises), self.evaluate, self.measure, limit, budget)


@settings(max_examples=40)
@given(NOISES, st.floats(0, 50), st.integers(1, 40))
def test_never_over_budget_and_nothing_twice(noises: list[float], limit: float, budget: int) -> None:
    model = Model(noises)
    outcome = model.search(limit, budget)
    assert len(model.evaluated) + len(model.measured) <= min(budget, largest_cost(len(noises)))
    assert len(set(model.evaluated)) == len(model.evaluated)
    if outcome.held is not None:
        assert outcome.held.drop_pp <= limit
        assert outcome.held.excluded_layers in model.evaluated
    assert outcome.best.drop_pp == min(map(Model(noises).evaluate, model.evaluated))


@settings(max_examples=40)
@given(NOISES, st.floats(0, 50))
def test_finds_the_smallest_set_that_holds(noises: list[float], limit: float) -> None:
    outcome = Model(noises).search(limit, largest_cost(len(noises)))
    ranked = sorted(noises, reverse=True)
    holding = [count for count in range(len(noises)) if sum(ranked[count:]) <= limit - 1e-9]
    if holding:
        assert outcome.held is not None
        assert len(outcome.held.excluded_layers) <= holding[0]
    elif min(noises) > limit:
        assert outcome.held is None


@settings(max_examples=40)
@given(NOISES, st.integers(1, 40))
def test_the_last_evaluation_goes_where_the_limit_is_likeliest_to_hold(noises: list[float], budget: int) -> None:
    outcome = Model(noises).search(min(noises), budget)
    if budget >= len(noises) + 2:
        assert outcome.held is not None


def test_a_limit_that_holds_at_once_takes_one_evaluation() -> None:
    model = Model([1, 2])
    outcome = model.search(3, 40)
    assert outcome.held == outcome.best
    assert (model.evaluated, model.measured) == ([()], [])


def test_blocks_left_float_are_in_the_order_of_the_model() -> None:
    outcome = Model([1, 5, 9, 1]).search(2, 40)
    assert outcome.held is not None
    assert outcome.held.excluded_layers == ("block1", "block2")


@pytest.mark.parametrize("budget", range(1, 6))
def test_no_block_is_measured_where_no_file_could_follow(budget: int) -> None:
    model = Model([1, 1, 1, 1])
    outcome = model.search(0, budget)
    assert outcome.held is None
    assert (len(model.evaluated), model.measured) == (1, [])
