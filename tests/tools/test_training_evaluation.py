"""Top-1, and how images are prepared for it."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cloformer_deploy.data import Preprocessing
from tools.training.evaluation import Result, evaluate, whole
from tools.training.objectives import Classification


class Reds:
    """Images whose red says their number."""

    identity = "reds"
    labels: Sequence[int] = (0, 1, 2, 1)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (40, 48), (index, 0, 0)), self.labels[index]


class Reader(nn.Module):
    """Takes the red for the class."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        preprocessing = Preprocessing.published(32, 32)
        red = (images[:, 0].mean((1, 2)) * preprocessing.std[0] + preprocessing.mean[0]) * 255
        return -(red[:, None] - torch.arange(4)).abs()


@pytest.mark.parametrize("final", [True, False])
def test_top_1_is_the_share_of_right_first_choices(final: bool) -> None:
    objective = Classification()
    assert evaluate(Reader(), objective, Reds(), range(4), (32, 32), final=final) == Result("32", 4, 0.75)
    assert evaluate(Reader(), objective, Reds(), [3], (32, 32), final=final) == Result("32", 1, 0)


def test_an_image_of_the_size_is_taken_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(whole(Image.fromarray(pixels), (64, 64)), pixels.transpose(2, 0, 1))


def test_while_training_the_whole_image_is_shown() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:4] = 255  # the published evaluation crops an eighth away
    assert whole(Image.fromarray(pixels), (32, 96))[:, 0].min() == 255
    assert whole(Image.fromarray(pixels), (32, 96)).shape == (3, 32, 96)
