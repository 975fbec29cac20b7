"""What was measured: one `Result` an artifact and device, and the file beside the manifest that keeps them."""

import fcntl
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.errors import BundleError
from cloformer_deploy.system.files import replaced

RESULTS_NAME = "bench.json"
Source = Literal["device", "host", "emulated", "simulated", "estimated", "compile_only"]
"""What a figure is. Only `device` is a mobile latency; `emulated` and `simulated` are no latency at all."""
Status = Literal["measured", "failed", "not_executed"]
Milliseconds = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Conditions(_Part):
    """The state of a device at one moment; what it does not tell is None.

    Attributes:
        governor: of the cores that were used, as the kernel names it.
        frequency_mhz: the mean of those cores.
        temperatures_c: degrees Celsius by thermal zone.
    """

    governor: str | None = None
    frequency_mhz: float | None = None
    temperatures_c: Mapping[str, float] = {}


class Result(_Part):
    """One artifact on one device. What its source cannot know is None.

    Attributes:
        path: of the artifact in the bundle; `format`, `precision`, `target` and `sha256` are its manifest entry's.
        device: as it was asked for, `host` or `ssh://pi@board`.
        machine: what it says it is.
        runtime: what executed the file, with `runtime_version`.
        source: see `Source`.
        status: whether there are figures; if not, `reason` says why.
        unit: of Core ML's compute units those that it could use, `CPU_AND_NE`; None of what has no such choice.
        placement: operations by the unit that runs them, where that is told.
        threads: that the runtime was given.
        cores: numbers of the cores it could run on.
        n: steady runs behind the figures.
        init_ms: opening the file, up to where it could run; without importing the runtime.
        first_ms: the first run.
        mean_ms: of the steady runs, as are `std_ms`, `min_ms` and the percentiles; `p99_ms` from 100 runs on.
        ratio: how many times as fast as the float32 file `ratio_to` it was, in the same call: the median over rounds in
            which both ran; `ratio_ci95` is its 95 % interval.
        peak_rss_bytes: of the process that ran this file alone.
        throttled: whether it slowed down while it was measured.
        noisy: whether rounds differ too much for the figures to be repeated.
        before, after: the device when it began, and when it ended.
        max_abs_diff: largest difference of its logits from this machine's, for the same file and image.
        measured_at: when, UTC, ISO 8601.
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
    ratio: float | None = None
    ratio_ci95: tuple[float, float] | None = None
    ratio_to: str | None = None
    peak_rss_bytes: int | None = None
    throttled: bool | None = None
    noisy: bool | None = None
    before: Conditions | None = None
    after: Conditions | None = None
    max_abs_diff: float | None = None
    measured_at: str

    @property
    def is_latency(self) -> bool:
        """Whether its milliseconds are those of a machine that exists."""
        return self.source in ("device", "host") and self.status == "measured"

    @property
    def place(self) -> str:
        """The device, with the units that could be used where there is a choice."""
        return self.device if self.unit is None else f"{self.device} {self.unit}"

    @property
    def cell(self) -> tuple[str, str, str | None, int]:
        """What it is a result of; a newer one of the same takes its place."""
        return self.path, self.device, self.unit, self.threads


class _Kept(_Part):
    schema_version: Literal[1] = 1
    results: tuple[Result, ...] = ()


def read_results(bundle: Bundle) -> tuple[Result, ...]:
    """The results kept with a bundle, those of artifacts that are still what they were, in the manifest's order.

    Raises:
        BundleError: the file that keeps them is damaged.
    """
    path = bundle.root / RESULTS_NAME
    try:
        kept = _Kept.model_validate_json(path.read_bytes()).results
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise BundleError(f"{path} cannot be read: {what}", "delete it, and measure again with bench") from error
    places = {(item.path, item.sha256): place for place, item in enumerate(bundle.manifest.artifacts)}
    current = [item for item in kept if (item.path, item.sha256) in places]
    return tuple(sorted(current, key=lambda item: places[item.path, item.sha256]))


def keep_results(bundle: Bundle, results: Iterable[Result]) -> None:
    """Keep results with a bundle; each takes the place of an earlier one of the same `cell`.

    Two that keep at once both do: the folder is locked meanwhile.

    Raises:
        BundleError: what is kept already is damaged.
        OSError: the folder cannot be written.
    """
    with (bundle.root / f".{RESULTS_NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        merged = {item.cell: item for item in (*read_results(bundle), *results)}
        with replaced(bundle.root / RESULTS_NAME) as staged:
            staged.write_text(_Kept(results=tuple(merged.values())).model_dump_json(indent=1) + "\n")
