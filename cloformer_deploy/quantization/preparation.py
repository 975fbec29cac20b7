"""Prepare a model for quantization, alike for all formats: equalize, lower, measure ranges, plan, correct biases."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from cloformer_deploy.data import ImageSet, Preprocessing
from cloformer_deploy.lowering import lower
from cloformer_deploy.lowering.batch_norm import fold_batch_norm
from cloformer_deploy.networks.base import Network, Rewrite
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization import graph
from cloformer_deploy.quantization.bias import correct_biases, hold_biases
from cloformer_deploy.quantization.bounds import leave_out_maxima
from cloformer_deploy.quantization.equalization import equalize
from cloformer_deploy.quantization.measured import PROBE, Measured
from cloformer_deploy.quantization.observers import Histogram, observe
from cloformer_deploy.quantization.plan import Plan, plan, quantized_operators, tensors
from cloformer_deploy.quantization.recipes import Recipe
from cloformer_deploy.quantization.tensor_matching import by_structure, fingerprints, identify

BIAS_IMAGES = 64
"""Images that biases are corrected on, of all: a mean error, unlike a range, is known from few (docs/int8.md)."""
_BATCH = 4
"""So few that the tensors of a batch stay in the processor's cache, which makes a pass faster."""


@dataclass(frozen=True)
class CalibrationBatches:
    """A calibration set that can be read several times; each pass is a step of `progress`.

    Attributes:
        images: the set.
        preprocessing: the model's.
        purpose: what the passes are for, for example "onnx int8"; it ends the name of each step.
        progress: receives a step for each pass.
    """

    images: ImageSet
    preprocessing: Preprocessing
    purpose: str
    progress: Progress

    def __call__(self, step: str, count: int | None = None) -> Iterator[Tensor]:
        """Yield batches of normalized images (B, 3, H, W), float32: all, or about `count` spread over the set.

        Raises:
            DataError: the set was made for another preprocessing, or is damaged.
        """
        self.progress.step(f"{step} for {self.purpose}")
        apart = 1 if count is None else max(len(self.images) // count, 1)
        done = 0
        for batch in self.images.batches(self.preprocessing, _BATCH * apart):
            yield torch.from_numpy(self.preprocessing.normalize(batch.pixels[::apart]))
            done += len(batch.pixels)
            self.progress.advance(done, len(self.images))

    def first(self, count: int) -> Tensor:
        """Return the first images of the set, or all if it has fewer, as a batch."""
        batch = next(iter(self.images.batches(self.preprocessing, count)))
        return torch.from_numpy(self.preprocessing.normalize(batch.pixels))


@dataclass(frozen=True)
class Observed:
    """A model with equalized channels, its lowered form, and histograms of its tensors over a calibration set."""

    equalized: nn.Module
    model: nn.Module
    traced: fx.GraphModule
    seen: Mapping[str, Histogram]
    recipe: Recipe


@dataclass(frozen=True)
class Prepared:
    """A model that is ready for a format's quantizer.

    Attributes:
        model: lowered; its float outputs differ from the reference's by the bias correction.
        traced: the same as a graph of named tensors, which shares the model's parameters; None where no operator is
            planned.
        plan: operators that are computed in integers, and ranges of tensors.
        seen: histograms of the plan's tensors.
    """

    model: nn.Module
    traced: fx.GraphModule | None
    plan: Plan
    seen: Mapping[str, Histogram]

    def matches(
        self,
        images: Tensor,
        found: Iterable[tuple[str, NDArray[Any]]],
        inputs: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, str]:
        """Return the node of each tensor of a file; nothing where no operator is planned.

        Args:
            images: normalized, (B, 3, H, W).
            found: the file's tensors by name, computed from the same images; read only if they are needed.
            inputs: what each of them is computed from, in the file's order; without it, tensors that hold rounding
                errors alone have no node.
        """
        if self.traced is None:
            return {}
        known = fingerprints(self.traced, images)
        sizes: dict[str, int] = {}

        def sized() -> Iterator[tuple[str, NDArray[Any]]]:
            for name, values in found:
                sizes[name] = values.size
                yield name, values

        by_value = identify(known, sized())
        return by_structure(self.traced, known, by_value, sizes, inputs or {})

    def clipped(self, matches: Mapping[str, str]) -> dict[str, float]:
        """Return the clipped share (0..1) of each tensor's values by names in a file, which `matches` maps to nodes."""
        return {
            name: self.seen[node].clipped(self.plan.ranges[node])
            for name, node in matches.items()
            if node in self.seen and node in self.plan.ranges  # excluded layers were observed too
        }


def observed(
    reference: nn.Module,
    network: Network,
    rewrites: Sequence[str],
    recipe: Recipe,
    images: CalibrationBatches,
    before: Measured | None = None,
    others: Sequence[Recipe] = (),
) -> Observed:
    """Equalize, lower and observe a copy of a model.

    Args:
        reference: the model, in evaluation mode.
        network: its family.
        rewrites: names of the target's, for graphs with integer convolutions.
        recipe: the recipe that is prepared for.
        images: the calibration set.
        before: what was measured for another lowered form of the same model; it is not measured again.
        others: recipes whose tensors are observed too, for who measures later.
    """
    model = before.model if before is not None else _equalized(reference, network, images)
    lowered = lower(model, _known(network, rewrites))
    traced = graph.trace(lowered, *images.preprocessing.shape)
    rounded = dict.fromkeys(name for each in (recipe, *others) for name in _rounded(traced, each))
    seen = before.of(traced, rounded) if before is not None else {}
    missing = [name for name in rounded if name not in seen]
    if missing:
        seen |= observe(traced, missing, images("Measuring ranges"))
    return Observed(model, lowered, traced, seen, recipe)


def _equalized(reference: nn.Module, network: Network, images: CalibrationBatches) -> nn.Module:
    model = network.rewritable(reference)
    fold_batch_norm(model)
    equalize(network, model, images("Equalizing channels"))
    return model


def _known(network: Network, names: Sequence[str]) -> list[Rewrite]:
    return [network.rewrites[name] for name in names if name in network.rewrites]


def _rounded(traced: fx.GraphModule, recipe: Recipe) -> list[str]:
    everything = recipe if recipe.excluded_bits is None else recipe.everything
    return tensors(traced, recipe, quantized_operators(traced, everything))


def unequalized(
    reference: nn.Module, network: Network, rewrites: Sequence[str], shape: tuple[int, int, int]
) -> fx.GraphModule:
    """Return the graph that `observed` traces, with the same operators and names, without reading any image."""
    model = network.rewritable(reference)
    fold_batch_norm(model)
    return graph.trace(lower(model, _known(network, rewrites)), *shape)


def measured(base: Observed, images: CalibrationBatches) -> Measured:
    """Return what was measured, for another lowered form of the same model, on the same images."""
    probe = images.first(PROBE)
    return Measured(base.equalized, base.seen, probe, fingerprints(base.traced, probe, base.seen))


def prepared(base: Observed, images: CalibrationBatches, excluded_layers: Collection[str] = ()) -> Prepared:
    """Plan a copy of an observed model, and correct its biases; modules that match `excluded_layers` stay float."""
    model, traced = graph.copied(base.model, base.traced)
    chosen = plan(traced, base.recipe, base.seen, excluded_layers)
    if leave_out_maxima(model, traced, chosen):
        chosen = plan(traced, base.recipe, base.seen, excluded_layers)
    hold_biases(traced, chosen)
    correct_biases(traced, chosen, images("Correcting biases", BIAS_IMAGES))
    return Prepared(model, traced, chosen, base.seen)


def weights_only(lowered: nn.Module, recipe: Recipe) -> Prepared:
    """Return what a recipe without integer activations needs: the lowered model as it is, and no operator planned."""
    return Prepared(lowered, None, Plan(recipe, frozenset(), {}), {})
