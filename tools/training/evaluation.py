"""The score of a model on images with targets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from cloformer_deploy.data.preprocessing import Preprocessing, fit, fit_boxes, fit_mask
from tools.training.objectives import Objective
from tools.training.recipe import Size, sized
from tools.training.sources import Source

BATCH = 32


@dataclass(frozen=True)
class Result:
    """A score, 0..1, on `n` images of a size, as it is written in a schedule."""

    size: str
    n: int
    score: float


def whole(image: Image.Image, size: Size) -> NDArray[np.uint8]:
    """The whole image at a height and width, bilinear with antialiasing: what a training at that size is judged by.

    RGB uint8, (3, height, width); an image that has the size already is taken as it is.
    """
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def evaluate(
    model: nn.Module, objective: Objective, source: Source, indices: Sequence[int], size: Size, *, final: bool
) -> Result:
    """The score of a model in eval mode on the source's images of these indices.

    Args:
        model: with normalized input (B, 3, height, width).
        objective: gives the score.
        source: of the images.
        indices: which of them.
        size: height and width in px.
        final: prepare them as the command line does, instead of showing the whole image.
    """
    device = next(model.parameters()).device
    with torch.inference_mode():
        answers = (
            (_on_cpu(model(images.to(device))), targets)
            for images, targets in _batches(objective, source, indices, size, final=final)
        )
        score = objective.score(answers)
    return Result(sized(size), len(indices), score)


def _on_cpu(outputs: Any) -> Any:
    return tuple(each.cpu() for each in outputs) if isinstance(outputs, tuple) else outputs.cpu()


def _batches(
    objective: Objective, source: Source, indices: Sequence[int], size: Size, *, final: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalized images (B, 3, height, width), channels last, and their targets."""
    preprocessing = Preprocessing.published(*size, margin=objective.margin)
    for first in range(0, len(indices), BATCH):
        taken = [source[index] for index in indices[first : first + BATCH]]
        pixels = [fit(image, preprocessing) if final else whole(image, size) for image, _ in taken]
        targets = [prepared(objective, target, image.size, preprocessing, final=final) for image, target in taken]
        images = torch.from_numpy(preprocessing.normalize(np.stack(pixels)))
        yield images.contiguous(memory_format=torch.channels_last), torch.stack(targets)


def prepared(
    objective: Objective, target: Any, size: tuple[int, int], preprocessing: Preprocessing, *, final: bool
) -> Tensor:
    """A target in the way that its image, of a width and height, goes."""
    if final and isinstance(target, np.ndarray):
        whole = target * np.array([*size, *size, 1, 1], np.float32)
        target = fit_boxes(whole, size, preprocessing)
    if final and isinstance(target, Image.Image):
        return torch.from_numpy(fit_mask(np.array(target), preprocessing)).long()
    return objective.resized(target, (preprocessing.height, preprocessing.width))
