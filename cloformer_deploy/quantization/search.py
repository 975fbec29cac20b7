"""The search under an accuracy limit: which blocks go back to float, found in few evaluations.

One measurement a block ranks the blocks by what their integers cost; then the number of blocks that are left float,
worst first, is bisected. It knows nothing of files or images: both kinds of evaluation are functions it is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SMALLEST_BUDGET = 2
"""PyTorch's own pass, and one file."""
DEFAULT_BUDGET = 32
"""Lets every search end: see `largest_cost`."""


@dataclass(frozen=True)
class Trial:
    """One candidate: the blocks left float, in the order of the model, and its top-1 drop in percentage points."""

    excluded_layers: tuple[str, ...]
    drop_pp: float


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    Attributes:
        held: the candidate of the fewest float blocks that held the limit; None if none did.
        best: the candidate of the smallest drop.
    """

    held: Trial | None
    best: Trial


def largest_cost(blocks: int) -> int:
    """Evaluations that a search over so many blocks takes at most, where its budget does not end it."""
    return 1 + (blocks + (blocks - 1).bit_length() if blocks > 1 else 0)


def search(
    blocks: Sequence[str],
    evaluate: Callable[[tuple[str, ...]], float],
    measure: Callable[[str], float],
    max_drop_pp: float,
    budget: int,
) -> Outcome:
    """Find the fewest blocks that have to be left float for the limit to hold.

    At least one block keeps its integers: a file without any would not be what was asked for.

    Args:
        blocks: those that have integers, in the order of the model.
        evaluate: the top-1 drop, in percentage points, with these blocks left float; costs one evaluation.
        measure: how much error the integers of this block alone make, in any unit; costs one evaluation.
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
