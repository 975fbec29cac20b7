"""Modules around a model that give a graph its interface: raw pixels in, and probabilities beside the logits."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cloformer_deploy.backends.base import CATEGORY_NAME, INPUT_NAME, ExportSpec
from cloformer_deploy.data import Preprocessing, probe_images
from cloformer_deploy.tasks.base import Scores
from cloformer_deploy.tasks.segmentation import STRIDE


class NormalizedInput(nn.Module):
    """A model with the normalization in front: input RGB 0..255, uint8 or float32, (B, 3, H, W)."""

    def __init__(self, model: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        self.register_buffer("pixel_scale", (1 / (255 * std)).float().reshape(1, -1, 1, 1))
        self.register_buffer("pixel_shift", (-mean / std).float().reshape(1, -1, 1, 1))
        self.pixel_scale: Tensor
        self.pixel_shift: Tensor

    def forward(self, image: Tensor) -> Any:
        """Return the model's outputs for raw pixels."""
        return self.model(image.float() * self.pixel_scale + self.pixel_shift)


class WithProbabilities(nn.Module):
    """A classifier that also returns its scores, for formats whose classifier interface needs them.

    Args:
        model: returns one tensor or several.
        index: position among them of the logits, (B, classes).
        scores: softmax or sigmoid.
    """

    def __init__(self, model: nn.Module, index: int, scores: Scores) -> None:
        super().__init__()
        self.model = model
        self.index = index
        self.scores = scores

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the model's outputs, and behind them the probabilities (B, classes)."""
        found = self.model(image)
        outputs = found if isinstance(found, tuple) else (found,)
        logits = outputs[self.index]
        return (*outputs, logits.sigmoid() if self.scores == "sigmoid" else logits.softmax(dim=-1))


class WithCategory(nn.Module):
    """A segmenter that also returns the class of each pixel of the input, (B, H, W), int32.

    Args:
        model: returns one tensor or several.
        index: position among them of the logits, (B, classes, H / 4, W / 4).
    """

    def __init__(self, model: nn.Module, index: int) -> None:
        super().__init__()
        self.model = model
        self.index = index

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the model's outputs, and behind them the class of the largest logit after bilinear upsampling."""
        found = self.model(image)
        outputs = found if isinstance(found, tuple) else (found,)
        wide = functional.interpolate(outputs[self.index], scale_factor=STRIDE, mode="bilinear", align_corners=False)
        return (*outputs, wide.argmax(dim=1).int())


def probe(spec: ExportSpec) -> tuple[Tensor, Mapping[str, NDArray[Any]]]:
    """Return one batch of images, normalized for the model (B, 3, H, W), and as a feed for the file."""
    pixels = probe_images(spec.shape[0], spec.preprocessing)
    images = spec.preprocessing.normalize(pixels)
    return torch.from_numpy(images), {INPUT_NAME: pixels if spec.input_kind == "image" else images}


def with_interface(spec: ExportSpec) -> nn.Module:
    """Return the model with the input that the spec's input kind asks for, and the class map that its files get."""
    model = spec.model
    if spec.input_kind == "image":
        model = NormalizedInput(model, spec.preprocessing).eval()
    if spec.has_category:
        model = WithCategory(model, [item.name for item in spec.outputs].index(str(spec.pixel_logits))).eval()
    return model


def output_names(spec: ExportSpec) -> list[str]:
    """Return the names of what `with_interface` returns, in its order."""
    return [*(output.name for output in spec.outputs), *([CATEGORY_NAME] if spec.has_category else [])]
