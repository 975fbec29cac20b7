"""An anchor-free detector: boxes and scores from a feature pyramid, decoded inside the graph.

Z. Tian, C. Shen, H. Chen, T. He, "FCOS: Fully Convolutional One-Stage Object Detection", arXiv 1904.01355, with
depthwise separable 5x5 convolutions, BatchNorm, and the joint score of class and quality of X. Li et al., "Generalized
Focal Loss", arXiv 2006.04388. Each cell of three maps (strides 8, 16 and 32) predicts one box by the distances of its
edges from the cell's center.
"""

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from cloformer_deploy.networks.heads.layers import WIDTH, TopDown, separable

STRIDES = (8, 16, 32)
"""Pixels of the image per cell, along each side, of each map."""
FIRST_SCORE = 0.01
"""Score of every class before any training (T.-Y. Lin et al., "Focal Loss", arXiv 1708.02002, section 4.1)."""
FIRST_DISTANCE = 2.0
"""Distance of every edge before any training, in cells: a ReLU passes no gradient to distances below 0."""
_KERNEL = 5


class Branch(nn.Sequential):
    """The layers that predict one output at one map: a separable convolution and a 1x1 convolution.

    Args:
        outputs: channels of the 1x1 convolution.
        bias: of all its channels, before any training.
    """

    def __init__(self, outputs: int, bias: float) -> None:
        predict = nn.Conv2d(WIDTH, outputs, 1)
        if not predict.weight.is_meta:  # for which torch would first load decompositions, for 3 seconds
            nn.init.normal_(predict.weight, std=0.01)
        cast(Tensor, predict.bias).data.fill_(bias)
        super().__init__(separable(_KERNEL), predict)


class Detector(TopDown):
    """The head.

    Args:
        channels: of the last three maps of the pyramid, see `TopDown`.
        num_classes: classes of each cell's scores.

    Attributes:
        scores: for each map, finest first.
        distances: for each map, finest first.
    """

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__(channels, _KERNEL)
        rare = -math.log(1 / FIRST_SCORE - 1)
        self.scores = nn.ModuleList(Branch(num_classes, rare) for _ in channels)
        self.distances = nn.ModuleList(Branch(4, FIRST_DISTANCE) for _ in channels)
        self.clip: nn.Module = Clip()

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the boxes and scores of all cells, row by row, from the finest map to the coarsest.

        Args:
            pyramid: maps (B, C_i, H_i, W_i).

        Returns:
            Boxes (B, N, 4): left, top, right and bottom edge, from 0 to 1 of the image's width and height. Scores
            (B, N, num_classes), from 0 to 1. Neither is suppressed.
        """
        boxes, scores = [], []
        for path, score, distance in zip(self.top_down(pyramid), self.scores, self.distances, strict=True):
            boxes.append(_rows(self.clip(decoded(torch.relu(cast(Tensor, distance(path)))))))
            scores.append(_rows(torch.sigmoid(cast(Tensor, score(path)))))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


class Clip(nn.Module):
    """Clips boxes to the image: to 0 and 1."""

    def forward(self, boxes: Tensor) -> Tensor:
        """Return clipped boxes."""
        return boxes.clamp(0, 1)


class ClipByRelus(nn.Module):
    """The same by two ReLUs, but for the rounding of 1 - x: LiteRT's quantizer has no integer form of a clip."""

    def forward(self, boxes: Tensor) -> Tensor:
        """Return clipped boxes."""
        return 1 - torch.relu(1 - torch.relu(boxes))


def decoded(distances: Tensor) -> Tensor:
    """Return the boxes of a map's cells, (B, 4, H, W); they may reach beyond the image.

    Args:
        distances: of the left, top, right and bottom edge from the center, in cells, (B, 4, H, W).
    """
    height, width = distances.shape[-2:]
    centers, cell = cells(height, width)
    near, far = distances[:, :2], distances[:, 2:]
    return torch.cat([centers - near * cell, centers + far * cell], 1)


def cells(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the centers (1, 2, H, W) and the size (1, 2, 1, 1) of a map's cells, x first, from 0 to 1 of the image.

    Converters get both as constants, not as operators that make them.
    """
    rows, columns = ((np.arange(count, dtype=np.float32) + np.float32(0.5)) / count for count in (height, width))
    centers = np.stack(np.meshgrid(columns, rows))
    return torch.tensor(centers[None].tolist()), torch.tensor([[[[1 / width]], [[1 / height]]]])


def _rows(values: Tensor) -> Tensor:
    return values.flatten(2).transpose(1, 2)
