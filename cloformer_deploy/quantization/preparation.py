"""From a float model and a calibration set to what a format's quantiser is told, the same for every format."""

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, fx

from cloformer_deploy.architecture import CloFormer
from cloformer_deploy.lowering import lower
from cloformer_deploy.lowering.batch_norm import fold_batch_norm
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.bias import correct_biases
from cloformer_deploy.quantization.equalisation import equalise
from cloformer_deploy.quantization.observers import Histogram, observe
from cloformer_deploy.quantization.plan import Plan, plan, quantized_operators, tensors
from cloformer_deploy.quantization.recipes import Recipe

Batches = Callable[[], Iterable[Tensor]]
"""Gives the calibration set from its start: batches of normalised images (B, 3, H, W), float32."""
Told = Callable[[str], None]
"""Is told each pass over the set before it starts."""


@dataclass(frozen=True)
class Observed:
    """A lowered model whose channels are equalised, and what its tensors hold over a calibration set."""

    model: CloFormer
    traced: fx.GraphModule
    seen: Mapping[str, Histogram]
    recipe: Recipe


@dataclass(frozen=True)
class Prepared:
    """What a format is given.

    Attributes:
        model: lowered; its float outputs are the reference's but for what bias correction took off.
        traced: the same as a graph of named tensors, which shares the model's parameters.
        plan: what becomes an integer.
        seen: what the plan's tensors held.
    """

    model: CloFormer
    traced: fx.GraphModule
    plan: Plan
    seen: Mapping[str, Histogram]


def observed(
    reference: CloFormer, format_name: str, target: str, recipe: Recipe, images: Batches, size: tuple[int, int], told: Told
) -> Observed:
    """Equalise, lower and observe a copy of a model in evaluation mode."""
    model = copy.deepcopy(reference)
    fold_batch_norm(model)
    told("Equalising channels")
    equalise(model, images())
    lowered = lower(model, format_name, target, integer=True)
    traced = graph.trace(lowered, *size)
    told("Measuring ranges")
    seen = observe(traced, tensors(traced, quantized_operators(traced, recipe)), images())
    return Observed(lowered, traced, seen, recipe)


def prepared(base: Observed, images: Batches, told: Told, left_float: Collection[str] = ()) -> Prepared:
    """Plan a copy of an observed model, and correct its biases; modules of the patterns `left_float` stay float."""
    model = copy.deepcopy(base.model)
    traced = copy.deepcopy(base.traced)
    chosen = plan(base.traced, base.recipe, base.seen, left_float)
    told("Correcting biases")
    correct_biases(traced, chosen, images())
    model.load_state_dict(traced.state_dict(), strict=False)
    return Prepared(model, traced, chosen, base.seen)
