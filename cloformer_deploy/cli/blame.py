"""`cloformer-deploy blame`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import DataOption, JsonOption, print_json, print_tables, progress


def command(
    artifact: Annotated[Path, typer.Argument(help="An exported file inside its bundle.", metavar="ARTIFACT")],
    data: DataOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use at most N images.", metavar="N", show_default="32")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Calibration images that the file was made with.",
            metavar="FILE",
            show_default="the bundled set, for files made with it",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Plot SQNR over depth to a .svg or .png file.", metavar="FILE", show_default="none"),
    ] = None,
    write_exclusions: Annotated[
        Path | None,
        typer.Option(
            help="Write the layers to keep in float, for export --recipe.", metavar="FILE", show_default="none"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the layers that cause a file's error, and those to exclude from quantization."""
    from cloformer_deploy.blame import check_outputs, investigate
    from cloformer_deploy.exporting.float_layers import write_excluded_layers
    from cloformer_deploy.report import blame_json, blame_tables, draw_blame

    check_outputs(plot, write_exclusions)
    with progress() as steps:
        found = investigate(artifact, data, limit, calibration, steps)
        if plot is not None:
            steps.step(f"Drawing {plot}")
            draw_blame(found, plot)
    if write_exclusions is not None and found.exclusions is not None:
        write_excluded_layers(write_exclusions, found.exclusions)
    if as_json:
        print_json(blame_json(found))
    else:
        print_tables(*blame_tables(found, plot, write_exclusions))
