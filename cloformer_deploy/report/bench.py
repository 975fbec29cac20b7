"""Benchmark results on a terminal and in JSON."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cloformer_deploy.report.cells import Rendered, add_row, new_table, short_name
from cloformer_deploy.system.text import counted

if TYPE_CHECKING:
    from rich.table import Table

    from cloformer_deploy.bench import Bench, Conditions, Result
    from cloformer_deploy.bundle import Bundle

NO_LATENCY = {
    "emulated": "the processor is emulated, which shows that the file runs and what it computes, but not how fast",
    "simulated": "the device is simulated",
    "compile_only": "the file was compiled and not run",
    "estimated": "the file was compiled and not run; its compiler estimates",
}
NOT_RUN = ("compile_only", "estimated")


def bench_json(result: "Bench") -> dict[str, Any]:
    """Return the JSON answer of `bench`; see docs/bench.md."""
    return {
        "schema_version": 2,
        "results": [item.model_dump(mode="json") for item in result.results],
        "errors": [
            {"device": name, "code": error.exit_code, "message": error.message, "hint": error.hint}
            for name, error in result.errors
        ],
    }


def bench_tables(bundle: "Bundle", result: "Bench") -> Rendered:
    """Yield for each device a table with one row per artifact, then its conditions and remarks."""
    yield f"{bundle.root!s}: latency of one run of a batch, milliseconds"
    for device in dict.fromkeys(item.device for item in result.results):
        items = [item for item in result.results if item.device == device]
        if any(item.is_latency for item in items):
            table = new_table(
                "artifact", "p50", "p90", "p99", "first", "init", "MB", "x fp32 (95 %)", numeric=(1, 2, 3, 4, 5, 6, 7)
            )
            for item in items:
                if item.status == "measured":
                    add_row(table, *_row(item))
            yield table
        if any(item.end_to_end is not None for item in items):
            yield "The whole path from a JPEG of 640 x 480 on, milliseconds; then memory, over runs of the file alone:"
            yield _path_table(items)
        yield from _lines(items)


def _path_table(items: "list[Result]") -> "Table":
    table = new_table(
        "artifact", "decode", "resize", "normalize", "model", "total", "MB more", "runs", numeric=(1, 2, 3, 4, 5, 6, 7)
    )
    for item in items:
        found = item.end_to_end
        if found is not None:
            times = (found.decode_ms, found.resize_ms, found.normalize_ms, found.model_ms, found.total_ms)
            growth = "-" if found.growth_bytes is None else f"{found.growth_bytes / 1e6:.1f}"
            add_row(table, _title(item), *map(_ms, times), growth, f"{found.runs:,}")
    return table


def _title(item: "Result") -> str:
    return short_name(item) + (f" {item.unit}" if item.unit else "")


def _row(item: "Result") -> list[str]:
    times = (item.p50_ms, item.p90_ms, item.p99_ms)
    speedup = "" if item.precision == "fp32" else "-"
    if item.speedup is not None:
        interval = f" ({item.speedup_ci95[0]:.2f}, {item.speedup_ci95[1]:.2f})" if item.speedup_ci95 else ""
        speedup = f"{item.speedup:.2f}{interval}"
    megabytes = "-" if item.peak_rss_bytes is None else f"{item.peak_rss_bytes / 1e6:.0f}"
    return [_title(item), *map(_ms, times), _ms(item.first_ms), _ms(item.init_ms), megabytes, speedup]


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _lines(items: "list[Result]") -> Iterator[str]:
    measured = [item for item in items if item.status == "measured"]
    for first in measured[:1]:
        cores = "" if first.cores is None else f", core {', '.join(map(str, first.cores))}"
        runtimes = sorted({f"{item.runtime} {item.runtime_version or ''}".strip() for item in measured if item.runtime})
        runs = min(item.n for item in measured)
        ran = first.source not in NOT_RUN
        counts = f"; {counted(runs, 'run')} or more each" if ran else ""
        threads = f" {counted(first.threads, 'thread')}{cores};" if ran else ""
        yield (
            f"{first.device} ({first.source}): {first.machine or 'an unnamed machine'};{threads} "
            f"{', '.join(runtimes)}{counts}."
        )
        if first.source in NO_LATENCY:
            yield f"No latency is given: {NO_LATENCY[first.source]}."
        state = _state(first.before, first.after)
        if state:
            yield state
    for item in items:
        yield from (f"{_title(item)}: {remark}" for remark in _remarks(item))


def _remarks(item: "Result") -> Iterator[str]:
    if item.reason is not None:
        yield f"{item.status}: {item.reason}"
    if item.p50_ms is None and item.mean_ms is not None and item.is_latency:
        yield f"mean {_ms(item.mean_ms)} ms, std {_ms(item.std_ms)}; {item.runtime} gives no percentiles"
    if item.source == "estimated" and item.mean_ms is not None:
        yield f"estimated {_ms(item.mean_ms)} ms on the NPU, of {item.assumes}"
    if item.throttled and item.is_latency:
        yield "throttled: the device slowed down during the measurement; let it cool, and measure again"
    if item.noisy and item.is_latency:
        yield "noisy: something else was running; speedups hold, milliseconds may not"
    if item.placement:
        yield ", ".join(f"{count} on {unit}" for unit, count in item.placement.items())
    if item.compiled_bytes is not None:
        yield f"compiled, {item.compiled_bytes / 1e6:.1f} MB"
    if item.max_abs_diff is not None:
        yield f"outputs differ from this machine's by at most {item.max_abs_diff:.1e}"


def _state(before: "Conditions | None", after: "Conditions | None") -> str:
    """Return governor, frequency and hottest zone, before and after, as far as the device gives them."""
    if before is None or after is None:
        return ""
    parts = [f"governor {before.governor}"] if before.governor else []
    if before.frequency_mhz is not None and after.frequency_mhz is not None:
        parts.append(f"{before.frequency_mhz:.0f} MHz before, {after.frequency_mhz:.0f} after")
    if before.temperatures_c and after.temperatures_c:
        hottest = [max(state.temperatures_c.values()) for state in (before, after)]
        parts.append(f"{hottest[0]:.0f} °C before, {hottest[1]:.0f} after")
    return f"Conditions: {'; '.join(parts)}." if parts else ""
