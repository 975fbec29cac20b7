"""Checks of a figure against its limit, with the figure's 95 % interval.

A figure within its limit passes. One beyond it fails if its whole interval lies beyond; if the limit lies inside the
interval, these images cannot decide, and the check says how many could.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from cloformer_deploy.tasks import Comparison
from cloformer_deploy.tasks.base import Interval

Outcome = Literal["passed", "failed", "undecided", "suspicious"]


@dataclass(frozen=True)
class Check:
    """One figure against its limit.

    Attributes:
        name: of the limit, as in `drift.toml`; or of a check without one: `finite`, `weights`, `executed`, `latency`.
        outcome: see the module; `suspicious` is a figure far better than the baseline's.
        text: what was found, in a sentence.
        value: the figure, in the limit's unit.
        limit: the limit.
        ci95: the figure's 95 % interval.
        images_needed: images that would decide it, if it is undecided and the figure stays what it is.
    """

    name: str
    outcome: Outcome
    text: str
    value: float | None = None
    limit: float | None = None
    ci95: Interval | None = None
    images_needed: int | None = None


def against_pytorch(
    found: Comparison, limits: Mapping[str, float], metric_title: str, reference_non_finite: int
) -> Iterator[Check]:
    """Yield the checks of an artifact against PyTorch.

    Args:
        found: the artifact's comparison.
        limits: `agreement`, `sqnr_db`, with a metric `drop_pp` (see `Task.thresholds`), perhaps `cosine_min`
            and `max_abs_diff`.
        metric_title: the metric in prose.
        reference_non_finite: images on which PyTorch itself gives NaN or infinity.
    """
    if reference_non_finite:
        yield Check("finite", "failed", f"PyTorch itself gives NaN or infinity on {reference_non_finite} images")
    elif found.non_finite:
        first = f"the first is number {(found.first_non_finite or 0) + 1}"
        yield Check("finite", "failed", f"NaN or infinity on {found.non_finite} of {found.n} images; {first}")
    yield at_least(
        "agreement", found.agreement, limits["agreement"], found.agreement_ci95, found.n, found.agreement_detail
    )
    if found.sqnr_db is not None and found.sqnr_ci95_db is not None:
        text = f"SQNR {found.sqnr_db:.1f} dB"
        yield at_least("sqnr_db", found.sqnr_db, limits["sqnr_db"], found.sqnr_ci95_db, found.n, text)
    if found.cosine_min is not None and limits.get("cosine_min") is not None:
        text, sure = f"lowest cosine {found.cosine_min:.6f}", (found.cosine_min, found.cosine_min)
        yield at_least("cosine_min", found.cosine_min, limits["cosine_min"], sure, found.n, text)
    if found.max_abs_diff is not None and limits.get("max_abs_diff") is not None:
        text, sure = f"largest difference {found.max_abs_diff:.2e}", (found.max_abs_diff, found.max_abs_diff)
        yield at_most("max_abs_diff", found.max_abs_diff, limits["max_abs_diff"], sure, found.n, text)
    if found.drop_pp is not None and found.drop_ci95_pp is not None:
        text = f"{metric_title} {moved(found.drop_pp)} PyTorch's: {found.drop_detail}"
        yield at_most("drop_pp", found.drop_pp, limits["drop_pp"], found.drop_ci95_pp, found.n, text)


def at_chance(reference: Comparison) -> str | None:
    """Return a sentence if PyTorch's own score is no better than chance.

    The 95 % interval of the score must hold no score halfway from chance to 1: few images cannot tell.
    """
    if reference.score is None or reference.score_ci95 is None or reference.chance is None:
        return None
    n, chance = reference.n, reference.chance
    low, high = reference.score_ci95
    if chance == 1 or low > chance or high > (1 + chance) / 2:  # 1: all images are of one class
        return None
    return (
        f"PyTorch's own score is {reference.score:.1%} on {n} images, where chance gives {chance:.1%}: the data do not "
        "fit the weights (other classes, another order of them, or another preprocessing)"
    )


def at_least(name: str, value: float, limit: float, interval: Interval, n: int, text: str) -> Check:
    """Check a figure that must reach a limit."""
    return _decided(name, value, limit, interval, n, text, reached=value >= limit, beyond=interval[1] < limit)


def at_most(name: str, value: float, limit: float, interval: Interval, n: int, text: str) -> Check:
    """Check a figure that must not exceed a limit."""
    return _decided(name, value, limit, interval, n, text, reached=value <= limit, beyond=interval[0] > limit)


def _decided(
    name: str, value: float, limit: float, interval: Interval, n: int, text: str, *, reached: bool, beyond: bool
) -> Check:
    if reached:
        return Check(name, "passed", text, value, limit, interval)
    if beyond:
        return Check(name, "failed", text, value, limit, interval)
    # The half of the interval that reaches over the limit shrinks with the square root of the number of images.
    half = max(interval[1] - value, value - interval[0])
    needed = math.ceil(n * (half / abs(value - limit)) ** 2) + 1
    return Check(name, "undecided", text, value, limit, interval, max(needed, n + 1))


def moved(drop_pp: float) -> str:
    """Return the words for a drop: how a metric compares with another."""
    if drop_pp == 0:
        return "is"
    return f"is {abs(drop_pp):.2f} pp {'below' if drop_pp > 0 else 'above'}"
