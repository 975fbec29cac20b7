"""TFLite's own benchmark_model, for devices without Python. It gives averages and no percentiles."""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from cloformer_deploy.bench.devices.base import Answer, Load, Measured, Options, Request
from cloformer_deploy.bench.devices.benchmark_binary import find_binary, machine_of
from cloformer_deploy.bench.devices.remote import GRACE_S, UNPACK, Connection, sent
from cloformer_deploy.bench.protocol import Figures
from cloformer_deploy.bench.results import Conditions
from cloformer_deploy.errors import MissingPartError, RequestError
from cloformer_deploy.progress import Progress

BINARY = "benchmark_model"
FORMAT = "tflite"
REPEATS = 6
"""Starts of the tool per file, interleaved: the fewest rounds that have a 95 % interval (see `protocol.speedup`)."""
_MARK, _BEFORE, _AFTER = "=== ", "(before)", "(after)"
# Prints lines `cpu NUMBER GOVERNOR KILOHERTZ` and `zone NAME MILLIDEGREES`, as far as the device gives them.
_CONDITIONS = """conditions() {
for c in /sys/devices/system/cpu/cpu[0-9]*; do
[ -r $c/cpufreq/scaling_cur_freq ] || continue
echo "cpu ${c##*cpu} $(cat $c/cpufreq/scaling_governor) $(cat $c/cpufreq/scaling_cur_freq)"
done
for z in /sys/class/thermal/thermal_zone*; do
[ -r $z/temp ] && echo "zone $(cat $z/type)${z##*thermal_zone} $(cat $z/temp)"
done
}
"""
# The script's standard input ends with the connection: then its shell ends, after the run that it waits for. The
# watching processes must neither hold its output open nor outlive it, because adbd waits for all that do.
_WATCH = """exec 3<&0
cat <&3 >/dev/null 2>&1 &
reader=$!
(while kill -0 $reader; do sleep 1; done; kill $$) 3<&- </dev/null >/dev/null 2>&1 &
watch=$!
"""
_NUMBER = r"([0-9.]+(?:e[+-]?[0-9]+)?)"
_STEADY = re.compile(
    rf"count=([0-9]+) first={_NUMBER} curr={_NUMBER} min={_NUMBER} max={_NUMBER} avg={_NUMBER} std={_NUMBER}"
)
_SUMMARY = re.compile(rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER},")
_MEMORY = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}")
_ABSENT = "TFLite's benchmark_model runs .tflite files only"


@dataclass(frozen=True)
class Run:
    """The figures of one start of the tool; None where it printed none. Times are in milliseconds."""

    n: int
    mean_ms: float
    std_ms: float
    min_ms: float
    init_ms: float
    first_ms: float
    peak_bytes: int | None


def measure(
    connection: Connection, options: Options, lack: MissingPartError, request: Request, progress: Progress
) -> Answer:
    """Measure the TFLite files with the tool; see `Device.measure`. `lack` is why the runner cannot be used."""
    loads = [load for load in request.loads if load.artifact.format == FORMAT]
    if not loads:
        raise lack
    binary = find_binary(options, lack)
    machine = _uname(connection)
    made_for = machine_of(binary)
    if made_for != machine:
        message = f"{binary} is for {made_for}, and {connection.name} is {machine}"
        raise RequestError(message, f"give a benchmark_model for {machine} with --benchmark-binary")
    files = {BINARY: binary.read_bytes()} | {load.path.name: load.path.read_bytes() for load in loads}
    script = UNPACK + _CONDITIONS + _check(loads) + _WATCH + _runs(loads, request)
    texts: dict[str, list[str]] = {name: [] for name in (_BEFORE, _AFTER, *(load.path.name for load in loads))}
    printed: list[str] = []
    with sent(connection, script, files, request.timeout_s + GRACE_S) as lines:
        for line in lines:
            if line.startswith(_MARK):
                printed = texts[line[len(_MARK) :].strip()]
                printed.append("")
                progress.advance(sum(map(len, texts.values())), REPEATS * len(loads) + 2)
            elif printed:
                printed[-1] += line
    return Answer(
        machine=machine,
        source="device",
        cores=request.cores,
        before=read_conditions(texts[_BEFORE][0], request.cores),
        after=read_conditions(texts[_AFTER][0], request.cores),
        measured=tuple(
            _measured(load, texts[load.path.name])
            if load in loads
            else Measured(load, "not_executed", f"{_ABSENT}, and {lack.message}")
            for load in request.loads
        ),
    )


def _check(loads: Sequence[Load]) -> str:
    """Return a script that checks that each file arrived as it was sent."""
    sums = "\n".join(f"{load.artifact.sha256}  {load.path.name}" for load in loads)
    return f"printf '%s\\n' {shlex.quote(sums)} | sha256sum -c - >&2 || exit 93\n"


def _runs(loads: Sequence[Load], request: Request) -> str:
    protocol = request.protocol
    flags = (
        f"--num_threads={request.threads} --warmup_runs={protocol.warmup_runs} --warmup_min_secs={protocol.warmup_s} "
        f"--num_runs={math.ceil(protocol.runs / REPEATS)} --min_secs={protocol.seconds / REPEATS:.2f} "
        f"--max_secs={request.timeout_s:.0f} --report_peak_memory_footprint=true"
    )
    mask = f"taskset {sum(1 << core for core in request.cores):x} " if request.cores is not None else ""
    limit = f"timeout -k 5 {request.timeout_s:.0f} {mask}"
    lines = [f"echo '{_MARK}{_BEFORE}'; conditions"]
    for load in REPEATS * list(loads):
        name = shlex.quote(load.path.name)
        lines += [f"echo '{_MARK}'{name}", f"{limit}./{BINARY} --graph={name} {flags} 2>&1 </dev/null"]
    lines += [f"echo '{_MARK}{_AFTER}'; conditions", "kill $watch $reader"]
    return "\n".join(lines) + "\n"


def _measured(load: Load, texts: Sequence[str]) -> Measured:
    runs = [read_run(text) for text in texts]
    known = [run for run in runs if run is not None]
    if len(known) < REPEATS:
        printed = (texts[-1].strip().splitlines() if texts else [])[-1:] or ["nothing"]
        return Measured(load, "failed", f"benchmark_model failed; its last line: {printed[0][:200]}")
    n = sum(run.n for run in known)
    mean = sum(run.n * run.mean_ms for run in known) / n
    variance = sum(run.n * (run.std_ms**2 + (run.mean_ms - mean) ** 2) for run in known) / n
    peaks = [run.peak_bytes for run in known if run.peak_bytes is not None]
    return Measured(
        load,
        "measured",
        runtime="tflite benchmark_model",
        figures=Figures(n, mean, math.sqrt(variance), min(run.min_ms for run in known)),
        rounds_ms=tuple(run.mean_ms for run in known),
        init_ms=known[0].init_ms,
        first_ms=known[0].first_ms,
        peak_rss_bytes=max(peaks, default=None),
    )


def read_run(text: str) -> Run | None:
    """Read the tool's output (LiteRT documentation, "Performance measurement"); None if it ended before its figures.

    There are two lines of counts, of the warm-up and of the runs; a single run has no average.
    """
    steady, summary, memory = _STEADY.findall(text), _SUMMARY.search(text), _MEMORY.search(text)
    if not steady or summary is None:
        return None
    count, _first, _current, least, _most, mean, std = steady[-1]
    return Run(
        n=int(count),
        mean_ms=float(mean) / 1e3,
        std_ms=float(std) / 1e3,
        min_ms=float(least) / 1e3,
        init_ms=float(summary[1]) / 1e3,
        first_ms=float(summary[2]) / 1e3,
        peak_bytes=round(1e6 * float(memory[1])) if memory is not None else None,
    )


def read_conditions(text: str, cores: Sequence[int] | None) -> Conditions:
    """Read the output of the script's `conditions`; governor and frequency are those of the given cores, or of all."""
    rows = [line.split() for line in text.splitlines()]
    cpus = [row for row in rows if row[:1] == ["cpu"] and len(row) == 4 and (cores is None or int(row[1]) in cores)]
    zones = [row for row in rows if row[:1] == ["zone"] and len(row) == 3 and row[2].lstrip("-").isdigit()]
    return Conditions(
        governor=", ".join(sorted({row[2] for row in cpus})) or None,
        frequency_mhz=sum(float(row[3]) for row in cpus) / len(cpus) / 1000 if cpus else None,
        temperatures_c={row[1]: int(row[2]) / 1000 for row in zones},
    )


def _uname(connection: Connection) -> str:
    with sent(connection, "uname -m", {}, GRACE_S) as lines:
        return "".join(lines).strip()
