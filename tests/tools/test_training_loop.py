"""A step of the training."""

from collections.abc import Iterator

import pytest
import torch

from tests.tools.samples import tiny_recipe
from tools.training.loop import prepare, train_step
from tools.training.objectives import Classification

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Images this small gain nothing from threads, which on a busy machine wait for one another for minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_only_matrices_decay() -> None:
    matrices, others = prepare(tiny_recipe(), None, CPU).optimizer.param_groups
    assert matrices["weight_decay"] > 0
    assert others["weight_decay"] == 0
    assert all(parameter.ndim > 1 for parameter in matrices["params"])
    assert all(parameter.ndim == 1 for parameter in others["params"])


def test_fresh_weights_are_of_the_seed() -> None:
    heads = [prepare(tiny_recipe(seed=seed), None, CPU).model.state_dict()["head.weight"] for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_steps_lower_the_loss_at_the_schedules_rate_and_the_average_follows() -> None:
    recipe = tiny_recipe(peak_lr=1e-3)
    training = prepare(recipe, None, CPU)
    before = training.average.state_dict()["head.weight"].clone()
    images, labels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])
    losses = [float(train_step(training, Classification(), images, labels, step, recipe)) for step in range(6)]
    assert losses[-1] < losses[0]
    assert {group["lr"] for group in training.optimizer.param_groups} == {recipe.learning_rate(5)}
    current, average = training.model.state_dict()["head.weight"], training.average.state_dict()["head.weight"]
    assert (average - before).abs().sum() > 0
    assert (average - current).abs().sum() > 0
    assert not training.average.training
