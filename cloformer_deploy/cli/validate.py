"""`cloformer-deploy validate`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import (
    DataOption,
    JsonOption,
    LimitOption,
    NpuOption,
    print_json,
    print_tables,
    progress,
)
from cloformer_deploy.errors import CheckFailedError, MissingPartError


def command(
    bundle: Annotated[Path, typer.Argument(help="Bundle: a folder written by export.", metavar="BUNDLE")],
    data: DataOption = None,
    limit: LimitOption = None,
    device: NpuOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every artifact of a bundle with PyTorch on the same images."""
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.npu import npu_of
    from cloformer_deploy.report import validation_json, validation_tables
    from cloformer_deploy.validation import validate

    with progress() as steps:
        result = validate(Bundle.open(bundle), data, limit, steps, npu_of(device) if device else None)
    if as_json:
        print_json(validation_json(result))
    else:
        print_tables(*validation_tables(result))
    # The answer is printed; only the exit code is left.
    if result.failed:
        raise typer.Exit(CheckFailedError.exit_code)
    if result.missing:
        raise typer.Exit(MissingPartError.exit_code)
