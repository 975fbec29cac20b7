"""`cloformer-deploy tune`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.cli.options import (
    CoresOption,
    DataOption,
    JsonOption,
    LimitOption,
    ThreadsOption,
    parse_cores,
    parse_size,
    print_json,
    print_tables,
    progress,
)
from cloformer_deploy.weights.zoo import DEFAULT

MEASUREMENTS, MINUTES = 60, 60.0


def command(
    format_name: Annotated[
        str, typer.Option("--format", help=f"Format to tune: {', '.join(BACKENDS)}.", metavar="FORMAT")
    ],
    output: Annotated[Path, typer.Option(help="Recipe file to write, for export --recipe.", metavar="FILE.json")],
    weights: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint file or folder, or name of bundled weights.",
            metavar="FILE|FOLDER|NAME",
            show_default=DEFAULT,
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="Precision to tune.", metavar="PRECISION")] = "int8",
    device: Annotated[
        str,
        typer.Option(help="Device to measure on: host, adb, ssh://HOST, ... See docs/bench.md.", metavar="DEVICE"),
    ] = "host",
    threads: ThreadsOption = 1,
    cores: CoresOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Maximum drop (pp) of top-1, mIoU or AP.",
            metavar="PP",
            show_default="the limits of validate",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Calibration set, a file written by calibrate.",
            metavar="FILE",
            show_default="the bundled set, for the weights it fits",
        ),
    ] = None,
    input_size: Annotated[str, typer.Option(help="Height and width in pixels.", metavar="N|HxW")] = "224",
    measurements: Annotated[int, typer.Option(min=1, help="Files to measure at most.", metavar="N")] = MEASUREMENTS,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for making and measuring files.")] = MINUTES,
    as_json: JsonOption = False,
) -> None:
    """Search the choices that make the fastest file on a device within an accuracy limit; goes on where it stopped."""
    from cloformer_deploy.bench.devices import Options, open_device
    from cloformer_deploy.exporting.request import ExportRequest, check_request
    from cloformer_deploy.report.tune import tune_json, tune_tables
    from cloformer_deploy.tune import TuneRequest, tune

    height, width = parse_size(input_size)
    asked = ExportRequest((format_name,), (precision,), weights, calibration=calibration, height=height, width=width)
    check_request(asked)
    request = TuneRequest(
        asked=asked,
        device=open_device(device, Options()),
        threads=threads,
        cores=parse_cores(cores) if cores is not None else None,
        output=output,
        data=data,
        images=limit,
        max_drop_pp=max_drop,
        most=measurements,
        seconds=60 * minutes,
    )
    with progress() as steps:
        found = tune(request, steps)
    if as_json:
        print_json(tune_json(output, found))
    else:
        print_tables(*tune_tables(output, found))
