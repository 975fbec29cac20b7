"""From a float model and a calibration set to what a format's quantizer is told, the same for every format."""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx

from cloformer_deploy.data import ImageSet, Preprocessing
from cloformer_deploy.lowering import lower
from cloformer_deploy.lowering.batch_norm import fold_batch_norm
from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.bias import correct_biases, hold_biases
from cloformer_deploy.quantization.bounds import leave_out_maxima
from cloformer_deploy.quantization.equalization import equalize
from cloformer_deploy.quantization.observers import Histogram, observe
from cloformer_deploy.quantization.plan import Plan, plan, quantized_operators, tensors
from cloformer_deploy.quantization.recipes import Recipe

_BATCH = 16


@dataclass(frozen=True)
class CalibrationBatches:
    """A calibration set as often as it is wanted: each pass is told to `step`, its progress to `advance`."""

    images: ImageSet
    preprocessing: Preprocessing
    step: Callable[[str], None]
    advance: Callable[[int], None]

    def __call__(self, purpose: str) -> Iterator[Tensor]:
        """Batches of normalized images (B, 3, H, W), float32.

        Raises:
            DataError: the set was made for another preprocessing, or is damaged.
        """
        self.step(purpose)
        done = 0
        for batch in self.images.batches(self.preprocessing, _BATCH):
            yield torch.from_numpy(self.preprocessing.normalize(batch.pixels))
            done += len(batch.pixels)
            self.advance(done)


@dataclass(frozen=True)
class Observed:
    """A lowered model whose channels are equalized, and what its tensors hold over a calibration set."""

    model: CloFormer
    traced: fx.GraphModule
    seen: Mapping[str, Histogram]
    recipe: Recipe
    size: tuple[int, int]


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

    def clipped(self, matches: Mapping[str, str]) -> dict[str, float]:
        """The share of a tensor's values that its range clips, by its name in a file; `matches` maps it to its node."""
        return {
            name: self.seen[node].clipped(self.plan.ranges[node])
            for name, node in matches.items()
            if node in self.seen and node in self.plan.ranges  # what is left in float was observed too
        }


def observed(
    reference: CloFormer,
    format_name: str,
    target: str,
    recipe: Recipe,
    images: CalibrationBatches,
    size: tuple[int, int],
) -> Observed:
    """Equalize, lower and observe a copy of a model in evaluation mode; `size` is height and width."""
    model = copy.deepcopy(reference)
    fold_batch_norm(model)
    equalize(model, images("Equalizing channels"))
    lowered = lower(model, format_name, target, integer=True)
    traced = graph.trace(lowered, *size)
    rounded = tensors(traced, recipe, quantized_operators(traced, recipe))
    seen = observe(traced, rounded, images("Measuring ranges"))
    return Observed(lowered, traced, seen, recipe, size)


def save_observed(base: Observed, path: Path) -> None:
    """Write what took the time to find, for another process of ours: `load_observed` reads it."""
    torch.save((base.model, dict(base.seen)), path)


def load_observed(path: Path, recipe: Recipe, size: tuple[int, int]) -> Observed:
    """What `save_observed` wrote, of the same recipe and size. Only ever a file of our own: it may hold any object."""
    model, seen = torch.load(path, weights_only=False)
    return Observed(model, graph.trace(model, *size), seen, recipe, size)


def prepared(base: Observed, images: CalibrationBatches, excluded_layers: Collection[str] = ()) -> Prepared:
    """Plan a copy of an observed model, and correct its biases; modules that match `excluded_layers` stay float."""
    model = copy.deepcopy(base.model)
    traced = graph.trace(model, *base.size)
    chosen = plan(traced, base.recipe, base.seen, excluded_layers)
    if leave_out_maxima(model, traced, chosen):
        traced = graph.trace(model, *base.size)
        chosen = plan(traced, base.recipe, base.seen, excluded_layers)
    hold_biases(traced, chosen)
    correct_biases(traced, chosen, images("Correcting biases"))
    return Prepared(model, traced, chosen, base.seen)


def weights_only(
    reference: CloFormer, format_name: str, target: str, recipe: Recipe, size: tuple[int, int]
) -> Prepared:
    """What a recipe takes that leaves activations float: the lowered model as it is, and no operator planned."""
    lowered = lower(reference, format_name, target)
    return Prepared(lowered, graph.trace(lowered, *size), Plan(recipe, frozenset(), {}), {})
