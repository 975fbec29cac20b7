"""A model that computes in float16 between inputs and outputs in float32."""

import copy
from typing import Any

from torch import Tensor, nn


class Half(nn.Module):
    """A copy of a model with its floats in float16; it takes and gives float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).half()

    def forward(self, image: Tensor) -> Any:
        """Return the model's outputs for images (B, 3, H, W)."""
        found = self.model(image.half())
        return tuple(item.float() for item in found) if isinstance(found, (tuple, list)) else found.float()
