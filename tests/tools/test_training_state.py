"""A saved state is taken up only whole, and only by the training that it is of."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cloformer_deploy.errors import CheckpointError, RequestError
from tests.tools.samples import tiny_recipe
from tools.training.recipe import Stage
from tools.training.state import Progress, Training, load_state, save_state

RECIPE = tiny_recipe().fingerprint()


def small_training() -> Training:
    model, average = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Training(model, average, optimizer)


def tensors(training: Training) -> list[torch.Tensor]:
    moments = [value for state in training.optimizer.state.values() for value in state.values()]
    return [*training.model.state_dict().values(), *training.average.state_dict().values(), *moments]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_state(tmp_path / "state.pt", RECIPE, Progress(7, 1.5), small_training())
    return tmp_path / "state.pt"


def test_a_state_is_taken_up_as_it_was_saved(tmp_path: Path) -> None:
    training, other = small_training(), small_training()
    save_state(tmp_path / "state.pt", RECIPE, Progress(7, 1.5), training)
    assert load_state(tmp_path / "state.pt", RECIPE, other) == Progress(7, 1.5)
    assert all(torch.equal(one, two) for one, two in zip(tensors(training), tensors(other), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "weights"])
def test_a_damaged_or_foreign_file_is_refused(saved: Path, damage: str) -> None:
    data = bytearray(saved.read_bytes())
    if damage == "flip":
        moment = small_training().optimizer.state_dict()["state"][0]["exp_avg"]
        data[data.index(moment.numpy().tobytes())] ^= 1
    content = {"cut": bytes(data[:-300]), "flip": bytes(data), "empty": b"", "text": b"hello"}
    if damage == "weights":
        torch.save(nn.Linear(3, 2).state_dict(), saved)
    else:
        saved.write_bytes(content[damage])
    before, training = saved.read_bytes(), small_training()
    weights = [tensor.clone() for tensor in tensors(training)]
    with pytest.raises(CheckpointError) as caught:
        load_state(saved, RECIPE, training)
    assert str(saved) in caught.value.message
    assert "--output" in caught.value.hint
    assert saved.read_bytes() == before
    assert all(torch.equal(one, two) for one, two in zip(weights, tensors(training), strict=True))


def test_every_flipped_bit_in_the_tensors_is_found(saved: Path) -> None:
    """A step of 97 bytes keeps it short; where a flip goes unnoticed, what it hit must not have mattered."""
    data = saved.read_bytes()
    reference = small_training()
    load_state(saved, RECIPE, reference)
    for position in range(0, len(data), 97):
        flipped = bytearray(data)
        flipped[position] ^= 16
        saved.write_bytes(flipped)
        training = small_training()
        try:
            assert load_state(saved, RECIPE, training) == Progress(7, 1.5)
        except RequestError:
            continue
        assert all(torch.equal(one, two) for one, two in zip(tensors(reference), tensors(training), strict=True))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("variant", {"variant": "xs"}),
        ("labels", {"labels": ("a", "b")}),
        ("data", {"data": "other"}),
        ("init", {"init": "00"}),
        ("schedule", {"schedule": (Stage((32, 32), 2),)}),
        ("seed", {"seed": 1}),
        ("batch", {"batch": 2}),
        ("peak_lr", {"peak_lr": 1.0}),
        ("sharpen", {"sharpen": 100.0}),
    ],
)
def test_the_state_of_another_training_is_refused_with_what_differs(
    saved: Path, name: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(RequestError, match=f"another training: {name} was") as caught:
        load_state(saved, tiny_recipe(**changes).fingerprint(), small_training())
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("break_it", [lambda content: content.pop("step"), lambda content: content.update(step="x")])
def test_a_state_that_lacks_a_part_is_refused(saved: Path, break_it: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(saved, weights_only=True)
    break_it(content)
    torch.save(content, saved)
    with pytest.raises(CheckpointError):
        load_state(saved, RECIPE, small_training())


def test_a_state_whose_tensors_do_not_fit_is_refused(saved: Path) -> None:
    training = small_training()
    with pytest.raises(CheckpointError, match="does not fit"):
        load_state(saved, RECIPE, dataclasses.replace(training, average=nn.Linear(4, 2)))
