"""Training of detectors: which cells answer for which object, the loss, and the score.

Cells are assigned by the alignment of score and overlap (C. Feng et al., "TOOD", arXiv 2108.07755, section 3.2); the
loss is the quality focal loss (arXiv 2006.04388, section 3.1) and GIoU (arXiv 1902.09630).
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from cloformer_deploy.networks.cloformer.architecture import HeadName
from cloformer_deploy.networks.heads.detector import STRIDES, cells
from cloformer_deploy.tasks import precision_drops
from cloformer_deploy.tasks.average_precision import Objects, packed, unpacked
from cloformer_deploy.tasks.boxes import detections
from tools.training.augmentation import augment
from tools.training.recipe import Recipe, Size
from tools.training.sources import Source

MOST_OBJECTS = 100
"""Objects of an image that a batch has room for."""
CELLS_OF_AN_OBJECT = 9
REACH = 2.5
"""Cells from an object's center, along each axis, within which cells may answer for it."""
_OVERLAP_POWER = 6
_BOX_WEIGHT = 2.0
_NONE = -1.0
"""Class of the rows that fill up a batch."""


class Detection:
    """Objects with boxes, judged by the average precision."""

    head: HeadName = "anchor_free"
    title = "AP"
    margin = False

    def fitted(self, source: Source) -> "Detection":
        """See `Objective.fitted`."""
        return self

    def augmented(
        self, image: Image.Image, target: NDArray[np.float32], size: Size, recipe: Recipe, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Tensor]:
        """See `Objective.augmented`."""
        pixels, objects = augment(image, target, size, recipe, rng)
        return pixels, filled(objects)

    def resized(self, target: NDArray[np.float32], size: Size) -> Tensor:
        """See `Objective.resized`: edges are shares of the image, whatever its size."""
        return filled(target)

    def loss(self, outputs: tuple[Tensor, Tensor], targets: Tensor, size: Size) -> Tensor:
        """See `Objective.loss`: of boxes (B, N, 4) and scores (B, N, classes), and objects (B, `MOST_OBJECTS`, 6)."""
        boxes, scores = outputs
        places = centers(size).to(boxes.device)
        total_score, total_box, weight = (boxes.new_zeros(()) for _ in range(3))
        for each_boxes, each_scores, rows in zip(boxes, scores, targets, strict=True):
            objects = rows[rows[:, 4] != _NONE]
            quality, owner, counted = assigned(each_boxes.detach(), each_scores.detach(), objects, places)
            total_score = total_score + quality_focal(each_scores, quality, counted)
            mine = owner >= 0
            share = quality[mine].amax(1)
            overlap = generalized_overlap(each_boxes[mine], objects[owner[mine], :4])
            total_box = total_box + (share * (1 - overlap)).sum()
            weight = weight + share.sum()
        return (total_score + _BOX_WEIGHT * total_box) / weight.clamp(min=1)

    def score(self, answers: Iterable[tuple[tuple[Tensor, Tensor], Tensor]]) -> float:
        """See `Objective.score`."""
        evidence, num_classes = [], 0
        for (boxes, scores), targets in answers:
            num_classes = scores.shape[2]
            for each_boxes, each_scores, rows in zip(boxes.numpy(), scores.numpy(), targets.numpy(), strict=True):
                found = detections(each_boxes, each_scores)
                evidence.append(packed(found, Objects.of(rows[rows[:, 4] != _NONE]), num_classes))
        classes = unpacked(evidence, num_classes)
        return precision_drops.score(classes) if classes else 0.0


def filled(objects: NDArray[np.float32]) -> Tensor:
    """Objects (n, 6) as (`MOST_OBJECTS`, 6); the largest, if there are more."""
    if len(objects) > MOST_OBJECTS:
        sizes = (objects[:, 2] - objects[:, 0]) * (objects[:, 3] - objects[:, 1])
        objects = objects[np.argsort(-sizes, kind="stable")[:MOST_OBJECTS]]
    rows = torch.full((MOST_OBJECTS, 6), _NONE)
    rows[: len(objects)] = torch.from_numpy(np.ascontiguousarray(objects))
    return rows


def centers(size: Size) -> Tensor:
    """Centers of all cells and the sides of each, x first, from 0 to 1 of an image, (N, 4)."""
    rows = []
    for stride in STRIDES:
        places, side = cells(size[0] // stride, size[1] // stride)
        rows.append(torch.cat([places, side.expand_as(places)], 1).flatten(2)[0].T)
    return torch.cat(rows)


def assigned(boxes: Tensor, scores: Tensor, objects: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Assign cells of an image to its objects.

    Args:
        boxes: of each cell, (N, 4).
        scores: of each cell, (N, classes).
        objects: of the image, (n, 6).
        places: from `centers`.

    Returns:
        The score that each cell and class should have, (N, classes); the object of each cell, -1 for none, (N,); and
        1 where a score counts, 0 inside ignored objects of its class, (N, classes).
    """
    quality, counted = torch.zeros_like(scores), torch.ones_like(scores)
    owner = torch.full((len(boxes),), -1, dtype=torch.long, device=boxes.device)
    taken = torch.zeros(len(boxes), device=boxes.device)
    for index, row in enumerate(objects):
        kind = int(row[4])
        inside = ((places[:, :2] > row[:2]) & (places[:, :2] < row[2:4])).all(1)
        if row[5] > 0:
            counted[inside, kind] = 0
            continue
        middle = (row[:2] + row[2:4]) / 2
        far = ((places[:, :2] - middle).abs() / places[:, 2:]).amax(1)
        candidates = torch.nonzero(inside & (far < REACH))[:, 0]
        if not len(candidates):
            candidates = far.argmin()[None]
        overlap = overlaps(boxes[candidates], row[:4].expand(len(candidates), 4))
        aligned = scores[candidates, kind] * overlap**_OVERLAP_POWER
        best = aligned.topk(min(CELLS_OF_AN_OBJECT, len(candidates))).indices
        chosen, aligned, overlap = candidates[best], aligned[best], overlap[best]
        wanted = aligned / aligned.max().clamp(min=1e-12) * overlap.max()
        better = overlap > taken[chosen]
        better[0] |= not better.any()
        chosen, wanted, overlap = chosen[better], wanted[better], overlap[better]
        quality[chosen] = 0
        quality[chosen, kind] = wanted
        owner[chosen], taken[chosen] = index, overlap
    return quality, owner, torch.maximum(counted, (quality > 0).float())


def quality_focal(scores: Tensor, quality: Tensor, counted: Tensor) -> Tensor:
    """The quality focal loss of scores, summed."""
    each = binary_cross_entropy(scores, quality, reduction="none") * (quality - scores.detach()).abs() ** 2
    return (each * counted).sum()


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes pair by pair, (n,) for (n, 4)."""
    return _shared(first, second)[0]


def generalized_overlap(first: Tensor, second: Tensor) -> Tensor:
    """GIoU of boxes pair by pair, -1 to 1, (n,) for (n, 4)."""
    overlap, union = _shared(first, second)
    sides = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    around = sides.prod(1)
    return overlap - (around - union) / around.clamp(min=1e-9)


def _shared(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    sides = torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])
    common = sides.clamp(min=0).prod(1)
    union = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1) - common
    return common / union.clamp(min=1e-9), union
