"""From a source to batches: which images a step sees, and their augmentation in worker processes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tools.training.augmentation import generator
from tools.training.objectives import Objective
from tools.training.recipe import Recipe, Size
from tools.training.sources import Source

Key = tuple[int, int]
"""An image in the training: (epoch, index)."""


def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The numbers below `count` in the order in which the epoch takes them."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch)))).permutation(count)


@dataclass(frozen=True)
class Steps(Sampler[list[Key]]):
    """The keys of each step from `start` to before `end`, both counted from the start of the training."""

    recipe: Recipe
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        recipe, order, order_epoch = self.recipe, np.empty(0, np.int64), -1
        for step in range(self.start, self.end):
            epoch, batch = divmod(step, recipe.steps_per_epoch)
            if epoch != order_epoch:
                order, order_epoch = epoch_order(recipe.seed, epoch, recipe.num_images), epoch
            chosen = order[batch * recipe.batch : (batch + 1) * recipe.batch]
            yield [(epoch, int(index)) for index in chosen]


@dataclass(frozen=True)
class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """The source's images, augmented to a height and width, by key."""

    source: Source
    recipe: Recipe
    objective: Objective
    size: Size

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """Pixels (3, height, width), uint8, and the target."""
        epoch, index = key
        image, target = self.source[index]
        rng = generator(self.recipe.seed, epoch, index)
        pixels, wanted = self.objective.augmented(image, target, self.size, self.recipe, rng)
        return torch.from_numpy(pixels), wanted


def batches(
    source: Source, recipe: Recipe, objective: Objective, size: Size, start: int, end: int, workers: int, pin: bool
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of steps `start` to before `end`: pixels (B, 3, height, width) uint8, and targets."""
    return DataLoader(
        Augmented(source, recipe, objective, size),
        batch_sampler=Steps(recipe, start, end),
        num_workers=workers,
        pin_memory=pin,
    )
