"""`cloformer-deploy validate`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import (
    DataOption,
    JsonOption,
    LimitOption,
    NpuOption,
    WorkersOption,
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
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every artifact of a bundle with PyTorch on the same images."""
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.npu import npu_of
    from cloformer_deploy.report import validation_json, validation_tables
    from cloformer_deploy.validation import validate
    from cloformer_deploy.validation.workers import workers_of

    opened, npu = Bundle.open(bundle), npu_of(device) if device else None
    with progress() as steps, workers_of(workers, steps) as hands:
        result = validate(opened, data, limit, steps, npu, hands)
    if as_json:
        print_json(validation_json(result))
    else:
        print_tables(*validation_tables(result))
    # The answer is printed; only the exit code is left.
    if result.failed:
        raise typer.Exit(CheckFailedError.exit_code)
    if result.missing:
        raise typer.Exit(MissingPartError.exit_code)
