"""`cloformer-deploy blame`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import DataOption, JsonOption, print_json, print_tables, progress


def command(
    artifact: Annotated[Path, typer.Argument(help="An exported file inside its bundle.", metavar="ARTIFACT")],
    data: DataOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use N pictures at most.", metavar="N", show_default="32")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="The pictures that the file's integers were fitted to.",
            metavar="FILE",
            show_default="the bundled set, for files made with it",
        ),
    ] = None,
    picture: Annotated[
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
    from cloformer_deploy.recipe_file import write_recipe
    from cloformer_deploy.report import blame_json, blame_tables, draw_blame
    from cloformer_deploy.validation.blame import investigate, refuse_outputs

    refuse_outputs(picture, fix)
    with progress() as steps:
        found = investigate(artifact, data, limit, calibration, steps)
        if picture is not None:
            steps.step(f"Drawing {picture}")
            draw_blame(found, picture)
    if fix is not None and found.recipe is not None:
        write_recipe(fix, found.recipe)
    if as_json:
        print_json(blame_json(found))
    else:
        print_tables(*blame_tables(found, picture, fix))
