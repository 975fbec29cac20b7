"""`cloformer-deploy export`."""

from pathlib import Path
from typing import Annotated, cast

import typer

from cloformer_deploy.backends.base import InputKind
from cloformer_deploy.backends.coreml.format import IOS_TARGETS
from cloformer_deploy.backends.registry import FORMATS, PRECISIONS
from cloformer_deploy.cli.options import JsonOption, parse_batch, parse_size, print_json, print_tables, progress
from cloformer_deploy.networks.cloformer import VARIANTS
from cloformer_deploy.quantization.search import DEFAULT_BUDGET
from cloformer_deploy.weights.zoo import DEFAULT

_TARGETS = sorted({target for item in FORMATS.values() for target in item.targets})
_ALL = "all"


def command(
    formats: Annotated[
        list[str], typer.Option("--format", help=f"{', '.join(FORMATS)} or {_ALL}; may be repeated.", metavar="FORMAT")
    ] = [_ALL],  # noqa: B006 - typer reads it as the default and never changes it
    precisions: Annotated[
        list[str], typer.Option("--precision", help=f"{', '.join(PRECISIONS)}; may be repeated.", metavar="PRECISION")
    ] = ["fp32"],  # noqa: B006
    weights: Annotated[
        str | None,
        typer.Option(
            help="A checkpoint file, or the name of bundled weights.",
            metavar="FILE|NAME",
            show_default=DEFAULT,
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(VARIANTS)}: must agree with the weights.",
            metavar="VARIANT",
            show_default="read from the weights",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help=f"Hardware the graph is made for: {', '.join(_TARGETS)}.",
            metavar="TARGET",
            show_default="cpu; ane for coreml",
        ),
    ] = None,
    input_kind: Annotated[
        str,
        typer.Option(
            "--input", help="tensor (normalized float32) or image (RGB 0..255, normalized inside).", metavar="KIND"
        ),
    ] = "tensor",
    input_size: Annotated[str, typer.Option(help="Height and width, multiples of 32.", metavar="N|HxW")] = "224",
    batch: Annotated[str, typer.Option(help="Batch size; dynamic for onnx.", metavar="N|dynamic")] = "1",
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Class names, one a line; they go into every file.", metavar="FILE", show_default="from the weights"
        ),
    ] = None,
    ios: Annotated[
        int, typer.Option(help=f"Core ML deployment target: iOS {', '.join(map(str, IOS_TARGETS))}.", metavar="N")
    ] = 17,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="ImageSet that integers are fitted to, as calibrate writes them.",
            metavar="FILE",
            show_default="the bundled set, for the weights it fits",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Hold the top-1 drop of files with integers, in percentage points: blocks go back to float.",
            metavar="PP",
            show_default="no limit",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="ImageSet that --max-drop is held on, one sub-folder a class.", metavar="DIR", show_default="none"
        ),
    ] = None,
    budget: Annotated[
        int,
        typer.Option(help="Evaluations that --max-drop may use for each file.", metavar="N"),
    ] = DEFAULT_BUDGET,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Layers to leave float in one of the files, as blame --fix writes them.",
            metavar="FILE",
            show_default="none",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The bundle's folder.", metavar="DIR", show_default="exports/WEIGHTS")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there, also a bundle of other weights.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export weights to ONNX, Core ML and TFLite; run every file back and compare it with PyTorch."""
    height, width = parse_size(input_size)
    batch_size = parse_batch(batch)

    from cloformer_deploy.export.pipeline import ExportRequest, export
    from cloformer_deploy.report import export_json, export_tables

    request = ExportRequest(
        formats=_formats(formats),
        precisions=list(dict.fromkeys(precisions)),
        weights=weights,
        variant=variant,
        target=target,
        input_kind=cast(InputKind, input_kind),
        height=height,
        width=width,
        batch=batch_size,
        labels=labels,
        ios=ios,
        calibration=calibration,
        output=output,
        overwrite=overwrite,
        max_drop_pp=max_drop,
        data=data,
        budget=budget,
        recipe=recipe,
    )
    with progress() as steps:
        made = export(request, steps)
    if as_json:
        print_json(export_json(made))
    else:
        print_tables(*export_tables(made))


def _formats(wanted: list[str]) -> list[str]:
    return list(FORMATS) if _ALL in wanted else list(dict.fromkeys(wanted))
