"""What to do about a file: export it again, or leave some layers float; and which, by files that were made and run."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.blame.blame import Blame, Distance, distance
from cloformer_deploy.blame.reexport import Reexported
from cloformer_deploy.export.jobs import run
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization.plan import quantized_operators
from cloformer_deploy.quantization.recipes import RECIPES
from cloformer_deploy.quantization.search import search
from cloformer_deploy.quantization.sensitivity import exclusion_pattern
from cloformer_deploy.validation.verdict import THRESHOLDS

GAIN_DB = 3.0
"""What leaving layers float shall bring a file that passes already, and exporting again to be advised."""
EXPORTS = 4
"""Files that a search makes at most."""
_UNMET = 1000.0
"""The shortfall, dB, of a file that a gain in SQNR alone does not mend."""

_BLOCK = r"layers\.\d+\.blocks\.\d+"

Advice = Literal["export_again", "exclude_layers", "nothing"]


@dataclass(frozen=True)
class Trial:
    """A file that was made and run: what it left float besides, and how far it is from PyTorch."""

    excluded_layers: tuple[str, ...]
    file: Distance


@dataclass(frozen=True)
class Fix:
    """What to do.

    Attributes:
        advice: `export_again` where a fresh export is better as it is; `leave_float` where some parts in float reach
            the goal; else `nothing`.
        goal_db: the SQNR that was searched for; None where nothing was.
        excluded_layers: the fewest parts in float that reach it, as `sensitivity.exclusion_pattern` takes them.
        file: of the file with these, run; of the fresh export, where that is the advice.
        trials: every file that was made.
    """

    advice: Advice
    goal_db: float | None = None
    excluded_layers: tuple[str, ...] = ()
    file: Distance | None = None
    trials: tuple[Trial, ...] = ()


def propose(found: Blame, fresh: Reexported, pixels: NDArray[np.uint8], folder: Path, progress: Progress) -> Fix:
    """Find what to do about a file that was looked at.

    Args:
        found: what `blame` came to on the same images.
        fresh: what it was held against.
        pixels: RGB uint8 (n, 3, H, W).
        folder: where files may be made.
        progress: told what is going on.

    Raises:
        RequestError, MissingPartError, ToolError: a conversion or a run failed.
    """
    fresh_passes = _passes(found, found.fresh)
    if fresh_passes and (found.faults or _db(found.fresh) >= _db(found.file) + GAIN_DB):
        return Fix("export_again", file=found.fresh)
    recipe = RECIPES[found.format, found.target].get(found.precision)
    if recipe is None or not recipe.needs_calibration or found.fresh.sqnr_db is None:
        return Fix("nothing")
    goal = found.fresh.sqnr_db + GAIN_DB if fresh_passes else THRESHOLDS[found.precision]["sqnr_db"]
    names = _candidates(found, fresh)
    return _Search(found, fresh, pixels, folder, progress, goal).run(names) if names else Fix("nothing", goal_db=goal)


def _passes(found: Blame, file: Distance) -> bool:
    """Whether a file is within what `validate` allows its precision; of few images one may differ in any case."""
    limits = THRESHOLDS[found.precision]
    differing = round((1 - file.top1_agreement) * found.n)
    allowed = math.ceil((1 - limits["top1_agreement"]) * found.n)
    return file.non_finite == 0 and _db(file) >= limits["sqnr_db"] and differing <= allowed


def _db(file: Distance) -> float:
    return -np.inf if file.sqnr_db is None or file.non_finite else file.sqnr_db


def _candidates(found: Blame, fresh: Reexported) -> dict[str, float]:
    """The parts of the model that have integers and how much noise each makes, worst first; as many as can be bisected.

    A part is an attention, a ConvFFN, a down-sampling path or the stem. Single layers in float gain little: a tensor
    between two is rounded as long as either is in integers.
    """
    parts: dict[str, float] = {}
    planned = _planned(found, fresh)
    for layer in found.layers:
        if layer.path and not planned.isdisjoint(layer.nodes):
            parts[_part(layer.path)] = parts.get(_part(layer.path), 0.0) + layer.logit_noise
    ordered = sorted(parts, key=lambda name: parts[name], reverse=True)
    # The search keeps the last of them in integers; what is left are lists of 1 to 15, one of which is found by four.
    return {name: parts[name] for name in ordered[: 2**EXPORTS]}


def _part(path: str) -> str:
    """The part that a layer is in, as `sensitivity.exclusion_pattern` takes it."""
    if re.fullmatch(_BLOCK, path):
        return f"{path}$"
    within = re.match(rf"{_BLOCK}\.[^.]+|[^.]+", path) if not re.fullmatch(r"layers\.\d+", path) else None
    return within[0] if within else path


def _planned(found: Blame, fresh: Reexported) -> frozenset[str]:
    (excluded_layers,) = fresh.job.excluded_layers.values()
    recipe = RECIPES[found.format, found.target][found.precision]
    return quantized_operators(fresh.traced, recipe, [exclusion_pattern(name) for name in excluded_layers])


class _Search:
    """Makes files with some layers float, runs each, and remembers."""

    def __init__(
        self,
        found: Blame,
        fresh: Reexported,
        pixels: NDArray[np.uint8],
        folder: Path,
        progress: Progress,
        goal_db: float,
    ) -> None:
        self._found, self._fresh, self._pixels = found, fresh, pixels
        self._folder, self._progress, self._goal_db = folder, progress, goal_db
        self._trials: list[Trial] = []

    def run(self, noise: dict[str, float]) -> Fix:
        """The fewest of these parts, worst first."""
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
        """How many dB a file is short of the goal, which the search takes for the drop it has to hold."""
        file = self._made(excluded_layers) if excluded_layers else self._found.fresh
        return self._goal_db - _db(file) if _passes(self._found, file) else _UNMET

    def _made(self, excluded_layers: Sequence[str]) -> Distance:
        count = len(self._trials) + 1
        self._progress.step(f"Exporting with {len(excluded_layers)} parts float, file {count} of at most {EXPORTS}")
        job, folder = self._fresh.job, self._folder / f"trial-{count}"
        folder.mkdir()
        ((precision, path),) = job.outputs.items()
        output = folder / path.name
        kept = {precision: (*job.excluded_layers[precision], *excluded_layers)}
        run([job.model_copy(update={"outputs": {precision: output}, "excluded_layers": kept})], self._progress)
        file = distance(output, self._fresh, self._pixels)
        self._trials.append(Trial(tuple(excluded_layers), file))
        return file
