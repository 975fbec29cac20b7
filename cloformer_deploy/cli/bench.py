"""`cloformer-deploy bench`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import (
    CoresOption,
    JsonOption,
    ThreadsOption,
    complain,
    parse_cores,
    print_json,
    print_tables,
    progress,
)
from cloformer_deploy.errors import RequestError

EXPORTS = Path("exports")


def command(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            help="Bundle: a folder written by export.", metavar="BUNDLE", show_default="the newest in exports"
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Device to measure on: host, adb, ssh://HOST, ... (see docs/bench.md); may be repeated.",
            metavar="DEVICE",
            show_default="host",
        ),
    ] = None,
    threads: ThreadsOption = 1,
    cores: CoresOption = None,
    mlperf: Annotated[
        bool, typer.Option("--mlperf", help="At least 1,024 runs and 60 s per artifact, as MLPerf requires.")
    ] = False,
    python: Annotated[
        str, typer.Option(help="Python on the board or phone, which runs the measurement.", metavar="PROGRAM")
    ] = "python3",
    adb: Annotated[Path | None, typer.Option(help="The adb program.", metavar="FILE", show_default="on PATH")] = None,
    benchmark_binary: Annotated[
        Path | None,
        typer.Option(help="TFLite's benchmark_model, for Android devices without Python.", metavar="FILE"),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Allow downloading benchmark_model from Google.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=1, help="Time limit of each device, seconds.", metavar="S", show_default="by number of artifacts"
        ),
    ] = None,
    end_to_end: Annotated[
        bool,
        typer.Option(
            "--end-to-end",
            help="On this machine, also time decoding, resizing and normalizing, and watch memory over 10,000 runs.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure latency on this machine or on devices; measurements are interleaved, so that speedups are reliable."""
    from cloformer_deploy.bench import MLPERF, Protocol, bench
    from cloformer_deploy.bench.devices import Options, open_device
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.report.bench import bench_json, bench_tables

    options = Options(python, adb, benchmark_binary, download)
    devices = [open_device(text, options) for text in dict.fromkeys(device or ["host"])]
    allowed = parse_cores(cores) if cores is not None else None
    protocol = MLPERF if mlperf else Protocol()
    if end_to_end and [item.name for item in devices] != ["host"]:
        raise RequestError("--end-to-end is for this machine alone", "give --device host, or leave --end-to-end out")
    opened = Bundle.open(bundle or _newest())
    with progress() as steps:
        result = bench(opened, devices, threads, allowed, protocol, timeout, steps, whole_path=end_to_end)
    if not result.results:
        raise result.errors[0][1]
    if as_json:
        print_json(bench_json(result))
    else:
        print_tables(*bench_tables(opened, result))
    for name, error in result.errors:
        complain(error, f"{name}: ")
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _newest() -> Path:
    manifests = sorted(EXPORTS.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not manifests:
        raise RequestError(f"there is no bundle in {EXPORTS}/", "give a bundle, or make one: cloformer-deploy export")
    return manifests[-1].parent
