"""Rank blocks by the quantization error that each causes alone, for the accuracy search."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from cloformer_deploy.errors import RequestError
from cloformer_deploy.networks.base import Network
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.plan import Plan, plan, quantized_operators
from cloformer_deploy.quantization.preparation import Observed
from cloformer_deploy.quantization.recipes import Recipe
from cloformer_deploy.quantization.simulation import Simulation
from cloformer_deploy.tasks import Output
from cloformer_deploy.tasks.distances import compared, named_outputs


def exclusion_pattern(network: Network, name: str) -> str:
    """Return the pattern of module paths (see `plan`) that keeps a module, with all inner modules, in float.

    A name that ends in `$` stands for the module's own operators alone; so does a stage, whose own operators lie
    between its blocks.
    """
    end = "$" if name.endswith("$") or network.is_stage(name) else r"(\.|$)"
    return f"^{re.escape(name.removesuffix('$'))}{end}"


def check_exclusions(network: Network, traced: fx.GraphModule, recipe: Recipe, names: Iterable[str]) -> None:
    """Check that each of these modules has quantized operators in a recipe, so that excluding it has an effect.

    Raises:
        RequestError: one has none.
    """
    everything = quantized_operators(traced, recipe)
    for name in names:
        if quantized_operators(traced, recipe, [exclusion_pattern(network, name)]) == everything:
            raise RequestError(
                f"the excluded layer {name!r} has no quantized operators in {recipe.name}",
                "name modules of this model, as blame lists them",
            )


class Sensitivity:
    """The quantized blocks of an observed model, and the error that each causes alone.

    Attributes:
        blocks: names of the planned operators of each block, by the block's name; in the order of the model.
    """

    def __init__(self, network: Network, base: Observed, outputs: Sequence[Output]) -> None:
        self._traced, self._outputs = base.traced, outputs
        self._plan = plan(base.traced, base.recipe, base.seen)
        self._float: list[tuple[Tensor, NDArray[np.float64]]] = []
        self.blocks: Mapping[str, frozenset[str]] = _blocks(network, self._traced, self._plan)

    def noise(self, block: str, batches: Iterable[Tensor]) -> float:
        """Return the energy of the error of the outputs, as a share of theirs, with only one block quantized.

        Args:
            block: one of `blocks`.
            batches: normalized images (B, 3, H, W); they are kept, and read on the first call only.
        """
        with torch.inference_mode():
            if not self._float:
                self._float = [(images, self._values(self._traced(images))) for images in batches]
            simulation = Simulation(self._traced, Plan(self._plan.recipe, self.blocks[block], self._plan.ranges))
            signal = sum(float((expected**2).sum()) for _, expected in self._float)
            noise = sum(
                float(((self._values(simulation.run(images)) - expected) ** 2).sum())
                for images, expected in self._float
            )
        return noise / signal if signal else noise

    def _values(self, outputs: Any) -> NDArray[np.float64]:
        return compared(named_outputs(outputs, self._outputs), self._outputs)


def _blocks(network: Network, traced: fx.GraphModule, chosen: Plan) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for node in traced.graph.nodes:
        block = network.block_of(graph.path(node))
        if block is not None and node.name in chosen.operators:
            found.setdefault(block, set()).add(node.name)
    return {block: frozenset(names) for block, names in found.items()}
