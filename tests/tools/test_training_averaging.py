"""The moving average of weights and of BatchNorm's statistics."""

import copy

import pytest
import torch
from torch import nn

from tools.training.averaging import decay_at, update


def test_the_decay_grows_to_its_highest() -> None:
    decays = [decay_at(step, 0.9) for step in range(200)]
    assert decays[0] == 0.1
    assert decays == sorted(decays)
    assert decays[-1] == 0.9


def test_weights_and_statistics_are_averaged_and_counters_copied() -> None:
    model = nn.BatchNorm1d(3)
    average = copy.deepcopy(model)
    with torch.no_grad():
        model.weight.fill_(3)
        model(torch.full((4, 3), 10.0))
    update(average, model, 0.75)
    assert average.weight.tolist() == [1.5] * 3
    assert average.running_mean is not None
    assert average.running_mean.tolist() == pytest.approx([0.25] * 3)
    assert average.num_batches_tracked is not None
    assert average.num_batches_tracked.item() == 1


def test_the_average_of_what_stays_is_itself() -> None:
    model = nn.Linear(5, 2)
    average = nn.Linear(5, 2)
    for _ in range(60):
        update(average, model, 0.5)
    assert torch.allclose(average.weight, model.weight)
