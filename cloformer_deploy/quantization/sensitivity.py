"""What the integers of one block alone cost: the ranking that the search under an accuracy limit starts from."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, fx

from cloformer_deploy.errors import RequestError
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.plan import Plan, plan, quantized_operators
from cloformer_deploy.quantization.preparation import Observed
from cloformer_deploy.quantization.recipes import Recipe
from cloformer_deploy.quantization.simulation import Simulation

_STAGE = r"layers\.\d+"
_BLOCK = re.compile(rf"{_STAGE}(\.blocks\.\d+)?|[^.]+")


def exclusion_pattern(name: str) -> str:
    """The pattern of module paths (see `plan`) by which a module is left float, with all that is in it.

    A name that ends in `$` is the module's own operators alone; a stage alone, `layers.I`, is what it computes between
    its blocks.
    """
    end = "$" if name.endswith("$") or re.fullmatch(_STAGE, name) else r"(\.|$)"
    return f"^{re.escape(name.removesuffix('$'))}{end}"


def check_needless(traced: fx.GraphModule, recipe: Recipe, names: Iterable[str]) -> None:
    """Make sure that each of these modules has integers in a recipe, so that it can be left float.

    Raises:
        RequestError: one has none.
    """
    everything = quantized_operators(traced, recipe)
    for name in names:
        if quantized_operators(traced, recipe, [exclusion_pattern(name)]) == everything:
            raise RequestError(
                f"{name!r}, which shall be left float, has no integers in {recipe.name}",
                "name modules of this model, as blame lists them",
            )


class Sensitivity:
    """The blocks of an observed model that have integers, and how much error each makes.

    Attributes:
        blocks: the names of the planned operators of each block, by its name; in the order of the model.
    """

    def __init__(self, base: Observed) -> None:
        self._traced = base.traced
        self._plan = plan(base.traced, base.recipe, base.seen)
        self._float: list[tuple[Tensor, Tensor]] = []
        self.blocks: Mapping[str, frozenset[str]] = _blocks(self._traced, self._plan)

    def noise(self, block: str, batches: Iterable[Tensor]) -> float:
        """The energy of the error of the mean-centered logits, as a share of theirs, with integers in one block alone.

        Args:
            block: one of `blocks`.
            batches: normalized images (B, 3, H, W); they are kept, and read on the first call only.
        """
        with torch.inference_mode():
            if not self._float:
                self._float = [(images, centered(self._traced(images))) for images in batches]
            simulation = Simulation(self._traced, Plan(self._plan.recipe, self.blocks[block], self._plan.ranges))
            signal = sum(float(expected.square().sum()) for _, expected in self._float)
            noise = sum(
                float((centered(simulation.run(images)) - expected).square().sum()) for images, expected in self._float
            )
        return noise / signal if signal else noise


def _blocks(traced: fx.GraphModule, chosen: Plan) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for node in traced.graph.nodes:
        block = _BLOCK.match(graph.path(node))
        if block and node.name in chosen.operators:
            found.setdefault(block[0], set()).add(node.name)
    return {block: frozenset(names) for block, names in found.items()}


def centered(logits: Tensor) -> Tensor:
    """Logits (B, classes) less their mean, float64."""
    return logits.double() - logits.double().mean(dim=1, keepdim=True)
