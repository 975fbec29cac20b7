"""What an artifact is held to, one check after the other, each with its interval.

A figure within its limit passes. One beyond it fails if its whole 95 % interval is; if the limit lies inside, these
images cannot tell, and how many could is said instead. One that is far better than the baseline is suspicious.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cloformer_deploy.gate.baseline import Accepted, Baseline
from cloformer_deploy.gate.config import Limits
from cloformer_deploy.validation.drift import paired_difference_ci95_pp
from cloformer_deploy.validation.paired import Interval, Paired

Outcome = Literal["passed", "failed", "undecided", "suspicious"]


@dataclass(frozen=True)
class Check:
    """One figure against its limit.

    Attributes:
        name: of the limit, as in `drift.toml`, or of what has none: `finite`, `weights`, `executed`.
        outcome: see above.
        text: what was found, in a sentence.
        value: the figure, in the limit's unit.
        limit: what it was held to.
        ci95: its interval.
        images_needed: how many would decide it, if it is undecided and the figure stays what it is.
    """

    name: str
    outcome: Outcome
    text: str
    value: float | None = None
    limit: float | None = None
    ci95: Interval | None = None
    images_needed: int | None = None


def against_pytorch(drift: Paired, limits: Limits, reference_non_finite: int) -> Iterator[Check]:
    """The checks that need no baseline."""
    if reference_non_finite:
        yield Check("finite", "failed", f"PyTorch itself gives NaN or infinity on {reference_non_finite} images")
    elif drift.non_finite:
        first = f"the first is number {(drift.first_non_finite or 0) + 1}"
        yield Check("finite", "failed", f"NaN or infinity on {drift.non_finite} of {drift.n} images; {first}")
    low, high = drift.agreement_ci95()
    share = drift.top1_agreement
    text = f"the same first class as PyTorch on {drift.agreeing} of {drift.n} images"
    yield _least("top1_agreement", share, limits.top1_agreement, (low, high), drift.n, text)
    if drift.measured:
        interval = drift.sqnr_ci95_db()
        text = f"SQNR {drift.sqnr_db:.1f} dB"
        yield _least("sqnr_db", drift.sqnr_db, limits.sqnr_db, interval, drift.n, text)
    if drift.labeled:
        drop = drift.top1_drop_pp
        text = f"top-1 {_moved(drop)} PyTorch's: {drift.lost} lost, {drift.gained} gained of {drift.labeled}"
        yield _most("top1_drop_pp", drop, limits.top1_drop_pp, drift.top1_drop_ci95_pp(), drift.labeled, text)


def against_baseline(
    drift: Paired,
    size: int,
    operators: int,
    limits: Limits,
    baseline: Baseline,
    accepted: Accepted,
    places: Mapping[str, int],
) -> Iterator[Check]:
    """The checks of a file of whose kind one was accepted before.

    Args:
        drift: of the file now.
        size: its bytes.
        operators: its number of operators.
        limits: the artifact's.
        baseline: the one that `accepted` is from.
        accepted: the figures then.
        places: of each image now, by its identity.
    """
    yield from _figures(drift, limits, baseline, accepted, places)
    for name, what, now, before, limit in (
        ("growth", "bytes", size, accepted.bytes, limits.growth),
        ("operators_growth", "operators", operators, accepted.operators, limits.operators_growth),
    ):
        share = now / before - 1
        text = f"{now:,} {what}, {before:,} in the baseline ({share:+.1%})"
        outcome: Outcome = "failed" if share > limit else "suspicious" if share < -limit else "passed"
        yield Check(name, outcome, text, share, limit)


def _figures(
    drift: Paired, limits: Limits, baseline: Baseline, accepted: Accepted, places: Mapping[str, int]
) -> Iterator[Check]:
    known = {name: index for index, name in enumerate(baseline.images)}
    common = [name for name in places if name in known]
    labeled = accepted.right is not None and drift.labeled > 0
    name = "regression_pp"
    if not common:
        text = "the baseline was made on other images: give the same ones, or accept anew with --update-baseline"
        yield Check(name, "undecided", text)
    else:
        bits = accepted.right if labeled and accepted.right is not None else accepted.agrees
        before = baseline.unpack(bits)[[known[image] for image in common]]
        after = np.concatenate(drift.right if labeled else drift.agrees)[[places[image] for image in common]]
        lost, gained, n = int((before & ~after).sum()), int((~before & after).sum()), len(common)
        drop, interval = 100 * (lost - gained) / n, paired_difference_ci95_pp(lost, gained, n)
        what = "top-1" if labeled else "agreement"
        text = f"{what} {_moved(drop)} the baseline's: {lost} lost, {gained} gained of {n} images in common"
        check = _most(name, drop, limits.regression_pp, interval, n, text)
        better = interval[1] < -limits.regression_pp
        yield Check(name, "suspicious", text, drop, limits.regression_pp, interval) if better else check
    if drift.measured:
        low, high = drift.sqnr_ci95_db()
        before_low, before_high = accepted.sqnr_ci95_db
        fall = (before_low + before_high) / 2 - drift.sqnr_db
        # What was accepted is known to within its own interval.
        interval = (before_low - high, before_high - low)
        text = f"SQNR {drift.sqnr_db:.1f} dB, {before_low:.1f} to {before_high:.1f} dB in the baseline"
        check = _most("regression_db", fall, limits.regression_db, interval, drift.n, text)
        better = interval[1] < -limits.regression_db
        yield Check("regression_db", "suspicious", text, fall, limits.regression_db, interval) if better else check


def _least(name: str, value: float, limit: float, interval: Interval, n: int, text: str) -> Check:
    return _judged(name, value, limit, interval, n, text, reached=value >= limit, beyond=interval[1] < limit)


def _most(name: str, value: float, limit: float, interval: Interval, n: int, text: str) -> Check:
    return _judged(name, value, limit, interval, n, text, reached=value <= limit, beyond=interval[0] > limit)


def _judged(
    name: str, value: float, limit: float, interval: Interval, n: int, text: str, *, reached: bool, beyond: bool
) -> Check:
    if reached:
        return Check(name, "passed", text, value, limit, interval)
    if beyond:
        return Check(name, "failed", text, value, limit, interval)
    # The half of the interval that reaches over the limit shrinks with the root of the images' number.
    half = max(interval[1] - value, value - interval[0])
    needed = math.ceil(n * (half / abs(value - limit)) ** 2) + 1
    return Check(name, "undecided", text, value, limit, interval, max(needed, n + 1))


def _moved(drop_pp: float) -> str:
    """How top-1 stands to another."""
    if drop_pp == 0:
        return "is"
    return f"is {abs(drop_pp):.2f} pp {'below' if drop_pp > 0 else 'above'}"
