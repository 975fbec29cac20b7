"""The graph's interface as modules around the model: raw pixels in, and the probabilities a classifier reports."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cloformer_deploy.backends.base import Graph
from cloformer_deploy.data import Preprocessing, probe_images


class NormalizedInput(nn.Module):
    """Puts the normalization inside the graph: input RGB 0..255, uint8 or float32, (B, 3, H, W)."""

    def __init__(self, model: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        self.register_buffer("pixel_scale", (1 / (255 * std)).float().reshape(1, 3, 1, 1))
        self.register_buffer("pixel_shift", (-mean / std).float().reshape(1, 3, 1, 1))
        self.pixel_scale: Tensor
        self.pixel_shift: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Logits of raw pixels."""
        logits: Tensor = self.model(image.float() * self.pixel_scale + self.pixel_shift)
        return logits


class WithProbabilities(nn.Module):
    """Gives the softmax beside the logits, for formats whose classifier interface wants it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(logits, probabilities), each (B, classes)."""
        logits = self.model(image)
        return logits, logits.softmax(dim=-1)


def probe(graph: Graph) -> tuple[Tensor, NDArray[Any]]:
    """One batch of images, normalized as the model takes them (B, 3, H, W), and as the graph's interface does."""
    pixels = probe_images(graph.shape[0], graph.preprocessing)
    images = graph.preprocessing.normalize(pixels)
    return torch.from_numpy(images), pixels if graph.input_kind == "image" else images


def with_interface(graph: Graph) -> nn.Module:
    """The model that takes what the graph's input kind says."""
    if graph.input_kind == "image":
        return NormalizedInput(graph.model, graph.preprocessing).eval()
    return graph.model
