"""Tensors as a file of the small traced model would have them: channels last, in another order, and with faults."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from cloformer_deploy.backends.base import FileTensor, Tensors
from cloformer_deploy.blame.alignment import Match, align, is_measured
from cloformer_deploy.blame.node_errors import Errors, Walk, float_values

Fault = Callable[[Tensor], Tensor]


class _Run(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, faults: dict[str, Fault]) -> None:
        super().__init__(module)
        self._faults = faults
        self.found: dict[str, FileTensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._faults:
            value = self._faults[n.name](value)
        if is_measured(n, value):
            moved = np.moveaxis(value.numpy(), 1, -1) if value.dim() == 4 else value.numpy()
            self.found[f"file/{n.name}"] = FileTensor(moved.copy(), False)
        return value


def tensors(module: fx.GraphModule, images: Tensor, faults: dict[str, Fault] | None = None) -> Tensors:
    """Return all tensors of a file that computes the model with faults in these nodes, including their consequences."""
    run = _Run(module, faults or {})
    with torch.inference_mode():
        run.run(images)
    return dict(reversed(run.found.items()))


def walk(module: fx.GraphModule, images: Tensor, found: Tensors) -> Errors:
    """Return the errors that each node of such a file adds."""
    matches = align(module, images, tensors(module, images))
    walked = Walk(module, matches)
    walked.step(float_values(module, images), found)
    return walked.errors


def matches_of(module: fx.GraphModule, images: Tensor) -> dict[str, Match]:
    """Return the tensor of such a file that matches each node."""
    return dict(align(module, images, tensors(module, images)))
