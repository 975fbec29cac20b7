"""`cloformer-deploy blame`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import DataOption, JsonOption, print_json, print_tables, progress


def command(
    artifact: Annotated[Path, typer.Argument(help="An exported file inside its bundle.", metavar="ARTIFACT")],
    data: DataOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use N images at most.", metavar="N", show_default="32")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="The images that the file's integers were fitted to.",
            metavar="FILE",
            show_default="the bundled set, for files made with it",
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw SQNR over depth: .svg or .png.", metavar="FILE", show_default="none")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            help="Write what to leave float as a recipe for export --recipe.", metavar="FILE", show_default="none"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the layers in which a file's error enters, and what to leave float, by running it beside PyTorch."""
    from cloformer_deploy.blame import check_outputs, investigate
    from cloformer_deploy.export.float_layers import write_excluded_layers
    from cloformer_deploy.report import blame_json, blame_tables, draw_blame

    check_outputs(plot, fix)
    with progress() as steps:
        found = investigate(artifact, data, limit, calibration, steps)
        if plot is not None:
            steps.step(f"Drawing {plot}")
            draw_blame(found, plot)
    if fix is not None and found.recipe is not None:
        write_excluded_layers(fix, found.recipe)
    if as_json:
        print_json(blame_json(found))
    else:
        print_tables(*blame_tables(found, plot, fix))
