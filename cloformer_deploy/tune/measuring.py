"""Measure files on the device, each beside the file that it is compared with; what is known is not measured again."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloformer_deploy.backends.tuning import Tuning
from cloformer_deploy.bench.devices.base import Answer, Device, Load, Measured, Request
from cloformer_deploy.bench.measure import load
from cloformer_deploy.bench.protocol import Protocol, speedup
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.errors import RequestError, ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.tune.candidates import Candidates
from cloformer_deploy.tune.state import State, Trial, write_state

QUICK = Protocol(warmup_runs=5, warmup_s=0.3, runs=30, seconds=1.5)
TOGETHER = 4
"""Files that are measured in one go beside their base: a killed or lost measurement costs no more."""
OPEN_S, SLOWEST = 60.0, 10.0
"""Time limit of a measurement: seconds to open each file, and a multiple of the protocol's seconds."""


class Measuring:
    """Measures candidates within a budget, and keeps the results.

    Args:
        device: where.
        threads: of the runtime.
        cores: to use; None leaves the choice to the system.
        candidates: makes the files.
        state: what is known already.
        path: where the state is kept.
        most: files to measure at most, those of earlier runs included.
        seconds: time to spend at most, that of earlier runs included.
        progress: receives each step.
    """

    def __init__(
        self,
        device: Device,
        threads: int,
        cores: tuple[int, ...] | None,
        candidates: Candidates,
        state: State,
        path: Path,
        most: int,
        seconds: float,
        progress: Progress,
    ) -> None:
        self._device, self._threads, self._cores, self._candidates = device, threads, cores, candidates
        self.state, self._path, self._most, self._seconds, self._progress = state, path, most, seconds, progress

    @property
    def is_over(self) -> bool:
        """The budget is used up."""
        return len(self.state.trials) >= self._most or self.state.seconds >= self._seconds

    def trials(self, tunings: Sequence[Tuning], base: Tuning) -> list[Trial]:
        """Return a trial of each tuning beside a base, as far as the budget goes.

        Raises:
            RequestError: the device is emulated or only compiles.
            ToolError: the base cannot be made or measured, or the device was lost.
        """
        missing = [item for item in tunings if self.state.known(item, base) is None]
        for start in range(0, len(missing), TOGETHER):
            if self.is_over:
                self._progress.warn("the budget is used up: the remaining alternatives are not tried")
                break
            self._measure(missing[start : start + TOGETHER], base)
        return [found for item in tunings if (found := self.state.known(item, base)) is not None]

    def _measure(self, tunings: Sequence[Tuning], base: Tuning) -> None:
        begun = time.monotonic()
        made = self._candidates.make([base, *tunings])
        start = made[base]
        if isinstance(start, str):
            raise ToolError(f"the file to compare with cannot be made: {start}", "report this")
        bundles = {item: found for item in tunings if isinstance(found := made[item], Bundle)}
        broken = [Trial(base=base, tuning=item, failure=str(made[item])) for item in tunings if item not in bundles]
        answer, loads = self.run([start, *bundles.values()], QUICK) if bundles else (None, [])
        tried = [] if answer is None else _trials(base, list(bundles), loads, answer)
        seconds = self.state.seconds + time.monotonic() - begun
        changes: dict[str, Any] = {"trials": (*self.state.trials, *broken, *tried), "seconds": seconds}
        if answer is not None:
            changes |= {"machine": answer.machine, "runtime": _runtime(answer)}
        self.state = self.state.model_copy(update=changes)
        write_state(self._path, self.state)

    def run(self, bundles: Sequence[Bundle], protocol: Protocol) -> tuple[Answer, list[Load]]:
        """Measure the artifact of each bundle, interleaved.

        Raises:
            RequestError: the device is emulated or only compiles: its times say nothing.
            ToolError: it was lost, or cannot run the files.
        """
        loads = [load(bundle, bundle.manifest.artifacts[0]) for bundle in bundles]
        limit_s = 300 + len(loads) * (OPEN_S + SLOWEST * protocol.seconds)
        self._progress.step(f"Measuring {len(loads)} files on {self._device.name}")
        request = Request(loads, self._threads, self._cores, protocol, limit_s)
        answer = self._device.measure(request, self._progress)
        if answer.source not in ("host", "device"):
            raise RequestError(
                f"{self._device.name} is {answer.source}: its times say nothing about a device",
                "give a real one with --device",
            )
        return answer, loads


def measured_of(answer: Answer, wanted: Load) -> Measured:
    """Return the measurement of a load; on the widest unit of a format that has several."""
    return [item for item in answer.measured if item.load is wanted][-1]


def _trials(base: Tuning, tunings: Sequence[Tuning], loads: Sequence[Load], answer: Answer) -> list[Trial]:
    first, *others = (measured_of(answer, item) for item in loads)
    if first.status != "measured":
        raise ToolError(f"the file to compare with was not measured: {first.reason}", "see whether bench runs there")
    return [_trial(base, tuning, first, other) for tuning, other in zip(tunings, others, strict=True)]


def _trial(base: Tuning, tuning: Tuning, first: Measured, other: Measured) -> Trial:
    if other.status != "measured":
        return Trial(base=base, tuning=tuning, failure=other.reason or other.status)
    ratio, interval = speedup(other.rounds_ms, first.rounds_ms)
    rounds = min(len(first.rounds_ms), len(other.rounds_ms))
    return Trial(base=base, tuning=tuning, speedup=ratio, speedup_ci95=interval, rounds=rounds)


def _runtime(answer: Answer) -> str | None:
    named = (f"{item.runtime} {item.runtime_version}" for item in answer.measured if item.runtime is not None)
    return next(named, None)
