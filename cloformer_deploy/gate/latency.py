"""Latency checks of the gate: ratios of interleaved measurements, never milliseconds of another day or machine.

`speedup` is over the float32 file of the artifact's format. `slowdown` is against the file of the same kind in the
baseline bundle, the bundle that was accepted last.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bench.devices import Load, Measured, Request
from cloformer_deploy.bench.devices.host import Host
from cloformer_deploy.bench.measure import float_baseline, load
from cloformer_deploy.bench.protocol import Protocol, speedup
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import RequestError
from cloformer_deploy.gate.config import DriftConfig, Limits
from cloformer_deploy.progress import Progress
from cloformer_deploy.tasks import task_of
from cloformer_deploy.validation.checks import Check

TIMEOUT_S = 1800.0


def latency_checks(
    bundle: Bundle, config: DriftConfig, baseline_bundle: Bundle | None, protocol: Protocol, progress: Progress
) -> dict[str, tuple[Check, ...]]:
    """Return the checks of every artifact with a limit on its latency, by path; nothing is measured without one.

    Args:
        bundle: the bundle that is judged.
        config: the limits.
        baseline_bundle: the bundle that was accepted last.
        protocol: length of the measurement.
        progress: takes the steps.

    Raises:
        RequestError: `slowdown` is limited and there is no baseline bundle.
        BundleError: a bundle is not as its manifest says.
        MissingPartError: nothing can be measured on this machine.
        ToolError: the measurement failed.
    """
    task = task_of(bundle.manifest)
    limits = {item.path: config.limits_of(item, task) for item in bundle.manifest.artifacts}
    limited = [item for item in bundle.manifest.artifacts if _is_limited(limits[item.path])]
    if not limited:
        return {}
    before = {item.path: _before(item, limits[item.path], baseline_bundle) for item in limited}
    progress.step("Measuring latency")
    bundle.verify()
    floats = [item for item in bundle.manifest.artifacts if item.precision == "fp32" and item not in limited]
    current = {item.path: load(bundle, item) for item in (*limited, *floats)}
    request = Request((*current.values(), *filter(None, before.values())), 1, None, protocol, TIMEOUT_S)
    measured = Host().measure(request, progress).measured
    return {
        item.path: tuple(_checks(current[item.path], limits[item.path], before[item.path], measured))
        for item in limited
    }


def open_baseline_bundle(path: Path | None) -> Bundle | None:
    """Open and verify the bundle that was accepted last, if one is given.

    Raises:
        BundleError: it is not as its manifest says.
    """
    if path is None:
        return None
    bundle = Bundle.open(path)
    bundle.verify()
    return bundle


def _is_limited(limits: Limits) -> bool:
    return limits.speedup is not None or limits.slowdown is not None


def _before(artifact: Artifact, limits: Limits, baseline_bundle: Bundle | None) -> Load | None:
    """Return the baseline bundle's artifact of the same kind, if `slowdown` is limited and there is one."""
    if limits.slowdown is None:
        return None
    if baseline_bundle is None:
        message = f"slowdown is limited for {artifact.path}, and there is no baseline bundle to compare it with"
        raise RequestError(message, "give the bundle that was accepted last with --baseline-bundle DIR")
    same = (item for item in baseline_bundle.manifest.artifacts if item.key == artifact.key)
    return next((load(baseline_bundle, item, baseline=True) for item in same), None)


def _checks(current: Load, limits: Limits, before: Load | None, measured: Sequence[Measured]) -> Iterator[Check]:
    mine = _of(current, measured)
    if not mine.rounds_ms:
        allowed = limits.not_executed == "allow"
        yield Check("latency", "passed" if allowed else "failed", f"latency not measured: {mine.reason}")
        return
    if limits.speedup is not None:
        yield speedup_check("speedup", mine, float_baseline(mine, measured), limits.speedup, "the float32 file")
    if limits.slowdown is not None and before is not None:
        least = 1 / (1 + limits.slowdown)
        yield speedup_check("slowdown", mine, _of(before, measured), least, "the baseline's file")


def _of(load: Load, measured: Sequence[Measured]) -> Measured:
    """Return the measurement of a load, where its format has several units that on the last.

    Formats list their units from the narrowest choice to the widest, which is what apps use that ask for none.
    """
    unit = BACKENDS[load.artifact.format].opener.units[-1]
    return next(item for item in measured if item.load is load and item.unit in (None, unit))


def speedup_check(name: str, mine: Measured, other: Measured | None, least: float, title: str) -> Check:
    """Check that a file is at least `least` times as fast as another, which `title` names."""
    if other is None or not other.rounds_ms:
        reason = "there is none" if other is None else other.reason
        return Check(name, "failed", f"speedup over {title} not measured: {reason}")
    value, interval = speedup(mine.rounds_ms, other.rounds_ms)
    text = f"{value:.2f} times as fast as {title}, over {len(mine.rounds_ms)} rounds on this machine"
    if value >= least:
        return Check(name, "passed", text, value, least, interval)
    if interval is not None and interval[1] < least:
        return Check(name, "failed", text, value, least, interval)
    return Check(name, "undecided", f"{text}: too few rounds to decide", value, least, interval)
