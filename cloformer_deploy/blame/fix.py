"""Propose a fix for a file: export it again, or exclude layers from quantization, found by making and running files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.blame.blame import Blame, Distance, distance
from cloformer_deploy.blame.reexport import Reexported
from cloformer_deploy.exporting.running import run
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization.plan import quantized_operators
from cloformer_deploy.quantization.search import search
from cloformer_deploy.quantization.sensitivity import exclusion_pattern

GAIN_DB = 3.0
"""Gain that excluding layers must bring to a file that passes already, and a re-export to be advised."""
EXPORTS = 3
"""Largest number of files that a search makes."""
_UNMET = 1000.0
"""Shortfall, dB, of a file that fails for another reason than its SQNR."""

Advice = Literal["export_again", "exclude_layers", "nothing"]


@dataclass(frozen=True)
class Trial:
    """A file that was made and run: its additional excluded layers, and its distance from PyTorch."""

    excluded_layers: tuple[str, ...]
    file: Distance


@dataclass(frozen=True)
class Fix:
    """A proposed fix.

    Attributes:
        advice: `export_again` where a re-export is better as it is; `exclude_layers` where excluding some parts reaches
            the goal; else `nothing`.
        goal_db: the SQNR that was searched for; None where nothing was.
        excluded_layers: the fewest parts in float that reach it, as `sensitivity.exclusion_pattern` takes them.
        file: of the file with these, run; of the re-export, where that is the advice.
        trials: every file that was made.
    """

    advice: Advice
    goal_db: float | None = None
    excluded_layers: tuple[str, ...] = ()
    file: Distance | None = None
    trials: tuple[Trial, ...] = ()


def propose(found: Blame, reexported: Reexported, pixels: NDArray[np.uint8], folder: Path, progress: Progress) -> Fix:
    """Propose a fix for a file.

    Args:
        found: the result of `blame` on the same images.
        reexported: the re-export that it was compared with.
        pixels: RGB uint8 (n, 3, H, W).
        folder: where files may be made.
        progress: receives each step.

    Raises:
        RequestError, MissingPartError, ToolError: a conversion or a run failed.
    """
    reexport_passes = _passes(found, reexported, found.reexported)
    if reexport_passes and (found.faults or _db(found.reexported) >= _db(found.file) + GAIN_DB):
        return Fix("export_again", file=found.reexported)
    calibrated = reexported.job.target_for(found.precision).calibrated(found.precision)
    if not calibrated or found.reexported.sqnr_db is None:
        return Fix("nothing")
    goal = (
        found.reexported.sqnr_db + GAIN_DB
        if reexport_passes
        else reexported.task.thresholds(found.precision)["sqnr_db"]
    )
    names = _candidates(found, reexported)
    return (
        _Search(found, reexported, pixels, folder, progress, goal).run(names) if names else Fix("nothing", goal_db=goal)
    )


def _passes(found: Blame, reexported: Reexported, file: Distance) -> bool:
    """Tell whether a file is within the limits of its precision; of few images one may differ in any case."""
    limits = reexported.task.thresholds(found.precision)
    differing = round((1 - file.agreement) * found.n)
    allowed = math.ceil((1 - limits["agreement"]) * found.n)
    return file.non_finite == 0 and _db(file) >= limits["sqnr_db"] and differing <= allowed


def _db(file: Distance) -> float:
    return -np.inf if file.sqnr_db is None or file.non_finite else file.sqnr_db


def _candidates(found: Blame, reexported: Reexported) -> dict[str, float]:
    """Return the quantized parts of the model and the noise of each, worst first; as many as can be bisected.

    A part is what `Network.part_of` says, such as an attention. Single layers in float gain little: a tensor between
    two layers is rounded as long as either is quantized.
    """
    parts: dict[str, float] = {}
    planned = _planned(found, reexported)
    for layer in found.layers:
        if layer.path and not planned.isdisjoint(layer.nodes):
            part = reexported.network.part_of(layer.path)
            parts[part] = parts.get(part, 0.0) + layer.output_noise
    ordered = sorted(parts, key=lambda name: parts[name], reverse=True)
    # The search never excludes the last one; three files find one of the remaining lists of 1 to 7 parts.
    return {name: parts[name] for name in ordered[: 2**EXPORTS]}


def _planned(found: Blame, reexported: Reexported) -> frozenset[str]:
    (excluded_layers,) = reexported.job.excluded_layers.values()
    recipe = reexported.job.target_for(found.precision).recipes[found.precision]
    return quantized_operators(
        reexported.traced, recipe, [exclusion_pattern(reexported.network, name) for name in excluded_layers]
    )


class _Search:
    """Makes files with some layers in float, runs each, and keeps the results."""

    def __init__(
        self,
        found: Blame,
        reexported: Reexported,
        pixels: NDArray[np.uint8],
        folder: Path,
        progress: Progress,
        goal_db: float,
    ) -> None:
        self._found, self._reexported, self._pixels = found, reexported, pixels
        self._folder, self._progress, self._goal_db = folder, progress, goal_db
        self._trials: list[Trial] = []

    def run(self, noise: dict[str, float]) -> Fix:
        """Find the fewest of these parts, worst first, that reach the goal in float."""
        outcome = search(
            list(noise),
            evaluate=self._shortfall,
            measure=noise.__getitem__,
            max_drop_pp=0.0,
            budget=1 + len(noise) + EXPORTS,
        )
        trials = tuple(self._trials)
        if outcome.held is None:
            return Fix("nothing", self._goal_db, trials=trials)
        (held,) = (trial for trial in trials if trial.excluded_layers == outcome.held.excluded_layers)
        return Fix("exclude_layers", self._goal_db, held.excluded_layers, held.file, trials)

    def _shortfall(self, excluded_layers: tuple[str, ...]) -> float:
        """Return by how many dB a file misses the goal; the search treats this as the drop."""
        file = self._made(excluded_layers) if excluded_layers else self._found.reexported
        return self._goal_db - _db(file) if _passes(self._found, self._reexported, file) else _UNMET

    def _made(self, excluded_layers: Sequence[str]) -> Distance:
        count = len(self._trials) + 1
        self._progress.step(f"Exporting with {len(excluded_layers)} parts in float, file {count} of at most {EXPORTS}")
        job, folder = self._reexported.job, self._folder / f"trial-{count}"
        folder.mkdir()
        ((precision, path),) = job.paths.items()
        output = folder / path.name
        kept = {precision: (*job.excluded_layers[precision], *excluded_layers)}
        run([job.model_copy(update={"paths": {precision: output}, "excluded_layers": kept})], self._progress)
        file = distance(output, self._reexported, self._pixels)
        self._trials.append(Trial(tuple(excluded_layers), file))
        return file
