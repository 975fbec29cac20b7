"""`cloformer-deploy validate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from cloformer_deploy.blame import CrossCheck
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.progress import Progress

CROSS_CHECKED = 2
"""Rendered images on which the interpreters are compared."""


def command(
    bundle: Annotated[Path, typer.Argument(help="Bundle: a folder written by export.", metavar="BUNDLE")],
    data: DataOption = None,
    limit: LimitOption = None,
    device: NpuOption = None,
    cross_check: Annotated[
        bool,
        typer.Option(
            "--cross-check",
            help="Compare the interpreters of Core ML and Core AI too, node by node. See docs/coreai.md.",
        ),
    ] = False,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every artifact of a bundle with PyTorch on the same images."""
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.npu import npu_of
    from cloformer_deploy.report import (
        cross_check_json,
        cross_check_tables,
        validation_json,
        validation_tables,
    )
    from cloformer_deploy.validation import validate
    from cloformer_deploy.validation.workers import workers_of

    opened, npu = Bundle.open(bundle), npu_of(device) if device else None
    with progress() as steps, workers_of(workers, steps) as hands:
        result = validate(opened, data, limit, steps, npu, hands)
        witnesses = _cross_check(opened, steps) if cross_check else ()
    if as_json:
        print_json({**validation_json(result), **cross_check_json(witnesses)})
    else:
        print_tables(*validation_tables(result), *cross_check_tables(witnesses))
    # The answer is printed; only the exit code is left.
    if result.failed or any(item.faults for item in witnesses):
        raise typer.Exit(CheckFailedError.exit_code)
    if result.missing:
        raise typer.Exit(MissingPartError.exit_code)


def _cross_check(bundle: "Bundle", progress: "Progress") -> "tuple[CrossCheck, ...]":
    from cloformer_deploy.blame import cross_check
    from cloformer_deploy.data import probe_images

    return cross_check(bundle, probe_images(CROSS_CHECKED, bundle.manifest.preprocessing), progress)
