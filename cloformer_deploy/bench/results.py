"""Benchmark results: one `Result` per artifact and device, kept in a file beside the manifest."""

import fcntl
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, ValidationError

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.errors import BundleError
from cloformer_deploy.system.files import replaced
from cloformer_deploy.system.schema import Strict, first_error

RESULTS_NAME = "bench.json"
Source = Literal["device", "host", "emulated", "simulated", "estimated", "compile_only"]
"""Origin of a figure. Only `device` is a latency on the target hardware; `emulated` and `simulated` are no latency."""
Status = Literal["measured", "failed", "not_executed"]
Milliseconds = Annotated[float, Field(ge=0)]


class Conditions(Strict):
    """The state of a device at one moment; None where the device does not give it.

    Attributes:
        governor: frequency governor of the cores that were used, as the kernel names it.
        frequency_mhz: mean frequency of those cores.
        temperatures_c: degrees Celsius by thermal zone.
    """

    governor: str | None = None
    frequency_mhz: float | None = None
    temperatures_c: Mapping[str, float] = {}


class PathTimes(Strict):
    """Medians over rounds, milliseconds, and memory.

    Attributes:
        decode_ms: JPEG to RGB.
        resize_ms: to the input's size, and cropping.
        normalize_ms: to the input's numbers and layout; of files with `--input image` only the layout.
        model_ms: the run itself, in the same rounds.
        total_ms: of all four together; not the sum of the medians.
        rounds: number of rounds.
        runs: runs of the file alone while memory was watched.
        growth_bytes: resident memory after the last of them less that after the first tenth; None where the system
            does not tell.
    """

    decode_ms: Milliseconds
    resize_ms: Milliseconds
    normalize_ms: Milliseconds
    model_ms: Milliseconds
    total_ms: Milliseconds
    rounds: int
    runs: int
    growth_bytes: int | None


class ResultKey(NamedTuple):
    """The identity of a result; a newer result with the same key replaces an older one."""

    path: str
    device: str
    unit: str | None
    threads: int


class Result(Strict):
    """The measurement of one artifact on one device. Figures that the source cannot know are None.

    Attributes:
        path: of the artifact in the bundle.
        format, precision, target: its kind.
        sha256: of the artifact, as in the manifest.
        device: as it was requested, `host` or `ssh://pi@board`.
        machine: name that the device gives itself.
        runtime: runtime that executed the file.
        runtime_version: its version.
        source: see `Source`.
        status: `measured` if there are figures.
        reason: why there are none.
        unit: compute unit that the runtime was allowed to use, such as `CPU_AND_NE` of Core ML; None for formats
            without such a choice.
        placement: number of operators by the unit that runs them, where the device gives it.
        compiled_bytes: size of the compiled form, where an NPU's compiler was asked.
        assumes: the system that an estimate is about.
        threads: that the runtime was given.
        cores: numbers of the cores that it could run on.
        n: counted runs behind the figures.
        init_ms: time to open the file until it could run; importing the runtime is not included.
        first_ms: time of the first run.
        mean_ms, std_ms, min_ms, p50_ms, p90_ms, p99_ms: of the counted runs; `p99_ms` from 100 runs on.
        speedup: how many times as fast as the float32 file `speedup_to`, measured in the same call: the median over
            rounds in which both ran.
        speedup_ci95: its 95 % interval.
        speedup_to: path of the float32 file of the same format.
        peak_rss_bytes: peak resident memory of the process that ran only this file.
        throttled: the device slowed down during the measurement.
        noisy: rounds differ too much for the figures to be repeatable.
        before: conditions at the start.
        after: conditions at the end.
        max_abs_diff: largest absolute difference of any output value from this machine's, for the same file and input.
        end_to_end: the whole path from a JPEG on, where it was asked for.
        measured_at: time of the measurement, UTC, ISO 8601.
    """

    path: str
    format: str
    precision: str
    target: str
    sha256: str
    device: str
    machine: str | None = None
    runtime: str | None = None
    runtime_version: str | None = None
    source: Source
    status: Status
    reason: str | None = None
    unit: str | None = None
    placement: Mapping[str, int] | None = None
    compiled_bytes: int | None = None
    assumes: str | None = None
    threads: int
    cores: tuple[int, ...] | None = None
    n: int = 0
    init_ms: Milliseconds | None = None
    first_ms: Milliseconds | None = None
    mean_ms: Milliseconds | None = None
    std_ms: Milliseconds | None = None
    min_ms: Milliseconds | None = None
    p50_ms: Milliseconds | None = None
    p90_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    speedup: float | None = None
    speedup_ci95: tuple[float, float] | None = None
    speedup_to: str | None = None
    peak_rss_bytes: int | None = None
    throttled: bool | None = None
    noisy: bool | None = None
    before: Conditions | None = None
    after: Conditions | None = None
    max_abs_diff: float | None = None
    end_to_end: PathTimes | None = None
    measured_at: str

    @property
    def is_latency(self) -> bool:
        """True if the milliseconds were measured on a real machine."""
        return self.source in ("device", "host") and self.status == "measured"

    @property
    def place(self) -> str:
        """The device, and the compute unit where there is a choice."""
        return self.device if self.unit is None else f"{self.device} {self.unit}"

    @property
    def key(self) -> ResultKey:
        """See `ResultKey`."""
        return ResultKey(self.path, self.device, self.unit, self.threads)


class _ResultsFile(Strict):
    schema_version: Literal[2] = 2
    results: tuple[Result, ...] = ()


def read_results(bundle: Bundle) -> tuple[Result, ...]:
    """Return the kept results of artifacts that have not changed since, in the manifest's order.

    Raises:
        BundleError: the results file is damaged or of another version.
    """
    path = bundle.root / RESULTS_NAME
    try:
        kept = _ResultsFile.model_validate_json(path.read_bytes()).results
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        problem = first_error(error) if isinstance(error, ValidationError) else error.strerror
        raise BundleError(f"{path} cannot be read: {problem}", "delete it, and measure again with bench") from error
    places = {(item.path, item.sha256): place for place, item in enumerate(bundle.manifest.artifacts)}
    current = [item for item in kept if (item.path, item.sha256) in places]
    return tuple(sorted(current, key=lambda item: places[item.path, item.sha256]))


def keep_results(bundle: Bundle, results: Iterable[Result]) -> None:
    """Write results beside the manifest; each replaces an older result with the same key.

    The results file is locked meanwhile, so that two processes can do this at the same time.

    Raises:
        BundleError: the existing results file is damaged or of another version.
        OSError: the folder cannot be written.
    """
    with (bundle.root / f".{RESULTS_NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        merged = {item.key: item for item in (*read_results(bundle), *results)}
        with replaced(bundle.root / RESULTS_NAME) as staged:
            staged.write_text(_ResultsFile(results=tuple(merged.values())).model_dump_json(indent=1) + "\n")
