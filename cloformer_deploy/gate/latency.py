"""Latency in the gate: ratios measured here and now, in turn, never milliseconds of another day or machine.

`speedup` holds an artifact against the float32 file of its format, `slowdown` against the same artifact of the bundle
that was accepted last, for which that bundle itself has to be there.
"""

from collections.abc import Iterator
from pathlib import Path

from cloformer_deploy.bench.devices import Load, Measured, Request
from cloformer_deploy.bench.devices.host import Host
from cloformer_deploy.bench.measuring import float_baseline, load
from cloformer_deploy.bench.protocol import Protocol, speedup
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import RequestError
from cloformer_deploy.gate.checks import Check
from cloformer_deploy.gate.config import DriftConfig, Limits
from cloformer_deploy.progress import Progress

TIMEOUT_S = 1800.0
_ACCEPTED = "accepted:"
"""Before the path of a file of the bundle that was accepted: files that are timed together need names of their own."""


def latency_checks(
    bundle: Bundle, config: DriftConfig, accepted: Bundle | None, protocol: Protocol, progress: Progress
) -> dict[str, tuple[Check, ...]]:
    """The checks of every artifact that has a limit of its latency, by path; none if no artifact has one.

    Args:
        bundle: to be judged.
        config: the limits.
        accepted: the bundle that was accepted last.
        protocol: how long is measured.
        progress: is told what goes on.

    Raises:
        RequestError: `slowdown` is limited, and no accepted bundle was given.
        BundleError: a bundle is not as its manifest says.
        MissingPartError: nothing can be timed here.
        ToolError: the measuring failed.
    """
    limits = {item.path: config.limits_of(item) for item in bundle.manifest.artifacts}
    limited = [item for item in bundle.manifest.artifacts if _wanted(limits[item.path])]
    if not limited:
        return {}
    before = {item.path: _before(item, limits[item.path], accepted) for item in limited}
    progress.step("Measuring latency")
    bundle.verify()
    loads = {item.path: load(bundle, item) for item in bundle.manifest.artifacts if item in limited or _is_float(item)}
    for old in before.values():
        if old is not None and accepted is not None:
            name = _ACCEPTED + old.path
            timed = load(accepted, old)
            loads[name] = Load(old.model_copy(update={"path": name}), timed.path, timed.image)
    request = Request(tuple(loads.values()), 1, None, protocol, TIMEOUT_S)
    measured = Host().measure(request, progress).measured
    return {item.path: tuple(_checks(item, limits[item.path], before[item.path], measured)) for item in limited}


def _wanted(limits: Limits) -> bool:
    return limits.speedup is not None or limits.slowdown is not None


def _is_float(artifact: Artifact) -> bool:
    return artifact.precision == "fp32"


def _before(artifact: Artifact, limits: Limits, accepted: Bundle | None) -> Artifact | None:
    """The same kind of artifact in the accepted bundle, if it is to be compared with."""
    if limits.slowdown is None:
        return None
    if accepted is None:
        message = f"slowdown is limited for {artifact.path}, and there is no accepted file to hold it against"
        raise RequestError(message, "give the bundle that was accepted last with --accepted DIR")
    kind = (artifact.format, artifact.precision, artifact.target)
    same = (item for item in accepted.manifest.artifacts if (item.format, item.precision, item.target) == kind)
    return next(same, None)


def _checks(
    artifact: Artifact, limits: Limits, before: Artifact | None, measured: tuple[Measured, ...]
) -> Iterator[Check]:
    by_path = {item.artifact.path: item for item in measured if item.unit in (None, "ALL")}
    mine = by_path[artifact.path]
    if not mine.rounds_ms:
        allowed = limits.not_executed == "allow"
        yield Check("latency", "passed" if allowed else "failed", f"latency not measured: {mine.reason}")
        return
    if limits.speedup is not None:
        yield ratio_check("speedup", mine, float_baseline(mine, measured), limits.speedup, "the float32 file")
    if limits.slowdown is not None and before is not None:
        least = 1 / (1 + limits.slowdown)
        yield ratio_check("slowdown", mine, by_path[_ACCEPTED + before.path], least, "the accepted file")


def ratio_check(name: str, mine: Measured, other: Measured | None, least: float, what: str) -> Check:
    """A check that one file is at least `least` times as fast as another."""
    if other is None or not other.rounds_ms:
        reason = "there is none" if other is None else other.reason
        return Check(name, "failed", f"latency over {what} not measured: {reason}")
    ratio, interval = speedup(mine.rounds_ms, other.rounds_ms)
    text = f"{ratio:.2f} times as fast as {what}, over {len(mine.rounds_ms)} rounds on this machine"
    if ratio >= least:
        return Check(name, "passed", text, ratio, least, interval)
    if interval is not None and interval[1] < least:
        return Check(name, "failed", text, ratio, least, interval)
    return Check(name, "undecided", f"{text}: these rounds do not tell it from the limit", ratio, least, interval)


def open_accepted(path: Path | None) -> Bundle | None:
    """The bundle that was accepted last, checked, if one is given."""
    if path is None:
        return None
    bundle = Bundle.open(path)
    bundle.verify()
    return bundle
