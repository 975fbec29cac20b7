"""Search for the fewest blocks that must stay float under an accuracy limit, in few evaluations.

One measurement per block ranks the blocks by the error that their integers cause; then the number of blocks that stay
float, worst first, is bisected. The search knows no files or images: both kinds of evaluation are functions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SMALLEST_BUDGET = 2
"""PyTorch's own pass, and one file."""
DEFAULT_BUDGET = 32
"""Enough for every search to end: see `largest_cost`."""


@dataclass(frozen=True)
class Trial:
    """One candidate: the blocks that stay float, in the order of the model, and its drop in percentage points."""

    excluded_layers: tuple[str, ...]
    drop_pp: float


@dataclass(frozen=True)
class Outcome:
    """The result of a search.

    Attributes:
        held: the candidate of the fewest float blocks that held the limit; None if none did.
        best: the candidate of the smallest drop.
    """

    held: Trial | None
    best: Trial


def largest_cost(blocks: int) -> int:
    """Return how many evaluations a search over so many blocks takes at most, if its budget does not end it."""
    return 1 + (blocks + (blocks - 1).bit_length() if blocks > 1 else 0)


def search(
    blocks: Sequence[str],
    evaluate: Callable[[tuple[str, ...]], float],
    measure: Callable[[str], float],
    max_drop_pp: float,
    budget: int,
) -> Outcome:
    """Find the fewest blocks that have to stay float for the limit to hold.

    At least one block keeps its integers: a file without any would not be what was asked for.

    Args:
        blocks: those that have integers, in the order of the model.
        evaluate: drop of the task's metric, percentage points, with these blocks in float; costs one evaluation.
        measure: error that the integers of this block alone cause, in any unit; costs one evaluation.
        max_drop_pp: the drop that is still allowed.
        budget: evaluations that may be used; at least 1.
    """
    trials = [Trial((), evaluate(()))]
    most = len(blocks) - 1
    used = 1
    if trials[0].drop_pp > max_drop_pp and most > 0 and used + len(blocks) < budget:
        ranked = sorted(blocks, key=measure, reverse=True)
        used += len(blocks)
        low, high = 1, most
        while low <= high and used < budget:
            none_held = high == most
            # The last evaluation goes to where the limit is likeliest to hold.
            count = high if none_held and used == budget - 1 else (low + high) // 2
            left = tuple(block for block in blocks if block in ranked[:count])
            trials.append(Trial(left, evaluate(left)))
            used += 1
            if trials[-1].drop_pp <= max_drop_pp:
                high = count - 1
            else:
                low = count + 1
    holding = [trial for trial in trials if trial.drop_pp <= max_drop_pp]
    return Outcome(
        held=min(holding, key=lambda trial: len(trial.excluded_layers), default=None),
        best=min(trials, key=lambda trial: (trial.drop_pp, len(trial.excluded_layers))),
    )
