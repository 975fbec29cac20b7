"""What the integers of one block alone cost: the ranking that the search under an accuracy limit starts from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.plan import Plan, plan
from cloformer_deploy.quantization.preparation import Observed
from cloformer_deploy.quantization.simulation import Simulation

_BLOCK = re.compile(r"layers\.\d+(\.blocks\.\d+)?|[^.]+")


def pattern(block: str) -> str:
    """The pattern of module paths (see `plan`) by which a block is left float.

    A stage alone, `layers.I`, is what is computed in it between its blocks.
    """
    inner = "" if re.fullmatch(r"layers\.\d+", block) else r"(\.|$)"
    return f"^{re.escape(block)}{inner or '$'}"


@dataclass(frozen=True)
class Sensitivity:
    """The blocks of an observed model that have integers, and how much error each makes on some pictures.

    Attributes:
        blocks: the operators of each block, by its name; in the order of the model.
        batches: normalised images (B, 3, H, W).
        logits: of the float model, (B, classes) of each batch.
    """

    base: Observed
    whole: Plan
    blocks: dict[str, frozenset[str]]
    batches: Sequence[Tensor]
    logits: Sequence[Tensor]

    def noise(self, block: str) -> float:
        """The energy of the error in the mean-centred logits, relative to theirs, with integers in one block alone."""
        simulation = Simulation(self.base.traced, Plan(self.whole.recipe, self.blocks[block], self.whole.ranges))
        noise = signal = 0.0
        with torch.inference_mode():
            for images, expected in zip(self.batches, self.logits, strict=True):
                noise += float(_centred(simulation.run(images) - expected).square().sum())
                signal += float(_centred(expected).square().sum())
        return noise / signal if signal else noise


def _centred(logits: Tensor) -> Tensor:
    return logits.double() - logits.double().mean(dim=1, keepdim=True)


def blocks(base: Observed) -> dict[str, frozenset[str]]:
    """The names of the planned operators of each block, by its name; in the order of the model."""
