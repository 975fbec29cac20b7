"""The images of a training step are the same from any step on, however often the training is begun."""

import pickle
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools.samples import tiny_recipe, write_images
from tools.training.loading import Augmented, Steps, batches, epoch_order
from tools.training.objectives import Classification
from tools.training.sources import FolderSource


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 1000), st.integers(1, 200))
def test_an_epoch_takes_every_image_once(seed: int, epoch: int, count: int) -> None:
    assert sorted(epoch_order(seed, epoch, count)) == list(range(count))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(epoch_order(seed, epoch, 50)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@settings(deadline=None)
@given(st.integers(1, 16), st.integers(0, 20), st.integers(0, 20))
def test_steps_taken_up_later_are_the_same_steps(batch: int, start: int, more: int) -> None:
    recipe = tiny_recipe(batch=batch)
    assert list(Steps(recipe, start, start + more)) == list(Steps(recipe, 0, start + more))[start:]


def test_an_epoch_sees_no_image_twice() -> None:
    recipe = tiny_recipe(batch=5)
    keys = [key for step in Steps(recipe, 0, 2 * recipe.steps_per_epoch) for key in step]
    assert len(keys) == len(set(keys)) == 30
    assert {epoch for epoch, _ in keys} == {0, 1}


def test_batches_are_of_the_asked_size_and_repeat(tmp_path: Path) -> None:
    source, recipe = FolderSource(write_images(tmp_path / "images")), tiny_recipe()
    whole = list(batches(source, recipe, Classification(), (32, 32), 0, 6, workers=0, pin=False))
    later = list(batches(source, recipe, Classification(), (32, 32), 4, 6, workers=1, pin=False))
    assert all(pixels.shape == (4, 3, 32, 32) and pixels.dtype == torch.uint8 for pixels, _ in whole)
    for (pixels, labels), (again, labels_again) in zip(whole[4:], later, strict=True):
        assert torch.equal(pixels, again)
        assert torch.equal(labels, labels_again)


def test_images_reach_processes_that_are_spawned(tmp_path: Path) -> None:
    dataset = Augmented(FolderSource(write_images(tmp_path / "images")), tiny_recipe(), Classification(), (32, 32))
    sent = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(sent[1, 5][0], dataset[1, 5][0])
