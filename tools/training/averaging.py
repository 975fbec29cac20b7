"""The exponential moving average of a model's weights."""

import torch
from torch import Tensor, nn


def decay_at(step: int, highest: float) -> float:
    """The share of the average that is kept at a step: small at first, so that the start is soon forgotten."""
    return min(highest, (1 + step) / (10 + step))


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move `average` towards `model`: average = decay * average + (1 - decay) * model.

    BatchNorm's running statistics are averaged like the weights they belong to; counters are copied.
    """
    current: dict[str, Tensor] = model.state_dict()
    for name, averaged in average.state_dict().items():
        if averaged.is_floating_point():
            averaged.lerp_(current[name], 1 - decay)
        else:
            averaged.copy_(current[name])
