"""Objectives of a training: the loss, the augmentation of images with their targets, and the score."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from cloformer_deploy.data.masks import IGNORED
from cloformer_deploy.networks.cloformer.architecture import HeadName
from tools.training.augmentation import augment
from tools.training.detection import Detection
from tools.training.recipe import LABEL_SMOOTHING, Recipe, Size
from tools.training.sources import Source, spread

FREQUENCY_IMAGES = 500
"""Images whose masks tell how frequent the classes are."""
_BALANCE = 1.2
"""Constant of the class weights of A. Paszke et al., "ENet", arXiv 1606.02147: 1 / ln(c + frequency)."""


class Objective(Protocol):
    """One task as a training sees it.

    Attributes:
        head: of the networks that are trained for it.
        title: the score's name in prose.
        margin: see `Preprocessing.published`.
    """

    head: HeadName
    title: str
    margin: bool

    def fitted(self, source: Source) -> "Objective":
        """The objective for a source, from whose targets it may take statistics."""

    def augmented(
        self, image: Image.Image, target: Any, size: Size, recipe: Recipe, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Tensor]:
        """An image and its target at random: uint8 (3, height, width), and the target for `loss`."""

    def resized(self, target: Any, size: Size) -> Tensor:
        """The target of a whole image that is brought to a height and width."""

    def loss(self, outputs: Any, targets: Tensor, size: Size) -> Tensor:
        """The loss of a batch of images of a height and width, a scalar."""

    def score(self, answers: Iterable[tuple[Any, Tensor]]) -> float:
        """The score, 0..1, from the outputs and targets of each batch."""


class Classification:
    """One class per image, judged by top-1."""

    head: HeadName = "linear"
    title = "top-1"
    margin = True

    def fitted(self, source: Source) -> "Classification":
        """See `Objective.fitted`."""
        return self

    def augmented(
        self, image: Image.Image, target: Any, size: Size, recipe: Recipe, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Tensor]:
        """See `Objective.augmented`."""
        return augment(image, None, size, recipe, rng)[0], torch.tensor(target)

    def resized(self, target: Any, size: Size) -> Tensor:
        """See `Objective.resized`."""
        return torch.tensor(target)

    def loss(self, outputs: Tensor, targets: Tensor, size: Size) -> Tensor:
        """See `Objective.loss`: of logits (B, classes) and classes (B,)."""
        return cross_entropy(outputs, targets, label_smoothing=LABEL_SMOOTHING)

    def score(self, answers: Iterable[tuple[Tensor, Tensor]]) -> float:
        """See `Objective.score`."""
        right = [(outputs.argmax(1) == targets).float() for outputs, targets in answers]
        return float(torch.cat(right).mean())


class Segmentation:
    """A class per pixel, judged by the mean over classes of intersection over union.

    Args:
        weights: of each class in the loss, so that rare classes count more; None counts all alike.
    """

    head: HeadName = "semantic_fpn"
    title = "mIoU"
    margin = False

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self.weights = weights

    def fitted(self, source: Source) -> "Segmentation":
        """See `Objective.fitted`: the weights are of the classes' frequencies in some masks."""
        counts = sum(
            np.bincount(np.asarray(source[index][1]).ravel(), minlength=256)
            for index in spread(source, FREQUENCY_IMAGES)
        )
        known = np.asarray(counts, np.float64)[:IGNORED]
        used = int(np.flatnonzero(known)[-1]) + 1
        return Segmentation((1 / np.log(_BALANCE + known[:used] / known.sum())).tolist())

    def augmented(
        self, image: Image.Image, target: Any, size: Size, recipe: Recipe, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Tensor]:
        """See `Objective.augmented`."""
        pixels, mask = augment(image, target, size, recipe, rng)
        return pixels, torch.from_numpy(mask).long()

    def resized(self, target: Any, size: Size) -> Tensor:
        """See `Objective.resized`."""
        return torch.from_numpy(np.array(target.resize(size[::-1], Image.Resampling.NEAREST))).long()

    def loss(self, outputs: Tensor, targets: Tensor, size: Size) -> Tensor:
        """See `Objective.loss`: of logits (B, classes, H / 4, W / 4) and masks (B, H, W)."""
        weights = None
        if self.weights is not None:
            weights = outputs.new_ones(outputs.shape[1])
            weights[: len(self.weights)] = torch.tensor(self.weights, device=outputs.device)
        return cross_entropy(_full(outputs, targets), targets, weights, ignore_index=IGNORED)

    def score(self, answers: Iterable[tuple[Tensor, Tensor]]) -> float:
        """See `Objective.score`."""
        total = torch.zeros(())
        for outputs, targets in answers:
            classes = outputs.shape[1]
            found, counted = _full(outputs, targets).argmax(1), targets != IGNORED
            pairs = targets[counted] * classes + found[counted]
            total = total + torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).double()
        present = total.sum(1) > 0
        union = total.sum(0) + total.sum(1) - total.diagonal()
        return float((total.diagonal()[present] / union[present]).mean())


def _full(outputs: Tensor, targets: Tensor) -> Tensor:
    """Logits at the resolution of the masks."""
    return interpolate(outputs, size=targets.shape[-2:], mode="bilinear", align_corners=False)


OBJECTIVES: dict[str, Objective] = {
    "classification": Classification(),
    "segmentation": Segmentation(),
    "detection": Detection(),
}
"""By the name of the task."""
