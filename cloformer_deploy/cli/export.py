"""`cloformer-deploy export`."""

from pathlib import Path
from typing import Annotated, cast

import typer

from cloformer_deploy.backends.base import InputKind
from cloformer_deploy.backends.coreml.targets import DEFAULT_IOS, IOS_TARGETS
from cloformer_deploy.backends.registry import BACKENDS, DEFAULT_FORMATS, all_precisions, all_targets
from cloformer_deploy.cli.options import JsonOption, parse_batch, parse_size, print_json, print_tables, progress
from cloformer_deploy.networks import all_variants
from cloformer_deploy.quantization.search import DEFAULT_BUDGET
from cloformer_deploy.weights.zoo import DEFAULT

_ALL = "all"
_MODEL, _FORMATS, _INPUT = "Model", "Formats", "Input of the files"
_QUANTIZATION, _ACCURACY, _OUTPUT = "Quantization", "Accuracy", "Output"


def command(
    weights: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint file or folder (PyTorch, safetensors), or name of bundled weights.",
            metavar="FILE|FOLDER|NAME",
            show_default=DEFAULT,
            rich_help_panel=_MODEL,
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            help=f"Require weights of this variant: {', '.join(all_variants())}.",
            metavar="VARIANT",
            show_default="read from the weights",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    architecture: Annotated[
        Path | None,
        typer.Option(
            help="Configuration of the network: JSON or YAML with the published keys.",
            metavar="FILE",
            show_default="what the weights say, else as published",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    head: Annotated[
        str,
        typer.Option(
            help="keep, or none: features c2 to c5 of weights that have a head.",
            metavar="keep|none",
            rich_help_panel=_MODEL,
        ),
    ] = "keep",
    scores: Annotated[
        str,
        typer.Option(
            help="softmax (one class per image) or sigmoid (multi-label): how the logits are to be read.",
            metavar="softmax|sigmoid",
            rich_help_panel=_MODEL,
        ),
    ] = "softmax",
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Class names, one per line or a JSON list; written into every file.",
            metavar="FILE",
            show_default="from the weights",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    formats: Annotated[
        list[str],
        typer.Option(
            "--format",
            help=f"{', '.join(BACKENDS)}, or {_ALL} for {', '.join(DEFAULT_FORMATS)}; may be repeated.",
            metavar="FORMAT",
            rich_help_panel=_FORMATS,
        ),
    ] = [_ALL],  # noqa: B006 - typer reads it as the default and never changes it
    precisions: Annotated[
        list[str],
        typer.Option(
            "--precision",
            help=f"{', '.join(all_precisions())}; may be repeated. See docs/int8.md.",
            metavar="PRECISION",
            rich_help_panel=_FORMATS,
        ),
    ] = ["fp32"],  # noqa: B006
    target: Annotated[
        str | None,
        typer.Option(
            help=f"Hardware to optimize the graph for: {', '.join(all_targets())}.",
            metavar="TARGET",
            show_default="cpu; ane for coreml and coreai",
            rich_help_panel=_FORMATS,
        ),
    ] = None,
    ios: Annotated[
        int,
        typer.Option(
            help=f"Core ML deployment target, iOS {', '.join(map(str, IOS_TARGETS))}.",
            metavar="N",
            rich_help_panel=_FORMATS,
        ),
    ] = DEFAULT_IOS,
    opset: Annotated[
        int | None,
        typer.Option(
            help="ONNX opset, 17 to 21: below 20 for older runtimes, with GELU decomposed. See docs/export.md.",
            metavar="N",
            show_default="20; 21 for w8a16",
            rich_help_panel=_FORMATS,
        ),
    ] = None,
    integer_io: Annotated[
        bool,
        typer.Option(
            "--integer-io",
            help="TFLite for ethos-u: input and outputs are integers, so that nothing is left for the CPU.",
            rich_help_panel=_INPUT,
        ),
    ] = False,
    compile_for: Annotated[
        list[str] | None,
        typer.Option(
            help="Keep the form compiled for this NPU beside the file (hexagon-v75, ethos-u85-1024, ...); repeatable.",
            metavar="DEVICE",
            show_default="none",
            rich_help_panel=_FORMATS,
        ),
    ] = None,
    input_kind: Annotated[
        str,
        typer.Option(
            "--input",
            help="tensor (normalized float32) or image (RGB 0..255, normalized in the graph).",
            metavar="KIND",
            rich_help_panel=_INPUT,
        ),
    ] = "tensor",
    input_size: Annotated[
        str,
        typer.Option(help="Height and width in pixels, multiples of 32.", metavar="N|HxW", rich_help_panel=_INPUT),
    ] = "224",
    batch: Annotated[
        str,
        typer.Option(help="Batch size; dynamic for onnx only.", metavar="N|dynamic", rich_help_panel=_INPUT),
    ] = "1",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Calibration set, a file written by calibrate.",
            metavar="FILE",
            show_default="the bundled set, for the weights it fits",
            rich_help_panel=_QUANTIZATION,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Recipe file of one artifact, written by tune, or by blame --write-exclusions.",
            metavar="FILE",
            show_default="none",
            rich_help_panel=_QUANTIZATION,
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Maximum drop (pp) of top-1, mIoU or AP of quantized files; blocks are kept in float until it is met.",
            metavar="PP",
            show_default="no limit",
            rich_help_panel=_ACCURACY,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labeled images for --max-drop: one sub-folder per class, images/ with masks/, or COCO annotations.",
            metavar="PATH",
            show_default="none",
            rich_help_panel=_ACCURACY,
        ),
    ] = None,
    budget: Annotated[
        int,
        typer.Option(help="Evaluations that --max-drop may use per file.", metavar="N", rich_help_panel=_ACCURACY),
    ] = DEFAULT_BUDGET,
    workers: Annotated[
        str | None,
        typer.Option(
            help="Run the images of --max-drop on all cores of this machine (ray) or of a cluster (ray:HOST:PORT).",
            metavar="ray[:ADDRESS]",
            show_default="this process",
            rich_help_panel=_ACCURACY,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Bundle folder to write.",
            metavar="DIR",
            show_default="exports/WEIGHTS",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace existing artifacts, even a bundle of other weights.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export weights to ONNX, Core ML and TFLite; run every file and compare it with PyTorch."""
    height, width = parse_size(input_size)
    batch_size = parse_batch(batch)

    from cloformer_deploy.exporting.pipeline import export
    from cloformer_deploy.exporting.request import ExportRequest, Head
    from cloformer_deploy.report import export_json, export_tables
    from cloformer_deploy.tasks.base import Scores

    request = ExportRequest(
        formats=list(
            dict.fromkeys(name for item in formats for name in (DEFAULT_FORMATS if item == _ALL else (item,)))
        ),
        precisions=list(dict.fromkeys(precisions)),
        weights=weights,
        variant=variant,
        architecture=architecture,
        head=cast(Head, head),
        scores=cast(Scores, scores),
        target=target,
        input_kind=cast(InputKind, input_kind),
        height=height,
        width=width,
        batch=batch_size,
        labels=labels,
        options={"ios": ios, "opset": opset, "integer_io": integer_io},
        calibration=calibration,
        output=output,
        overwrite=overwrite,
        max_drop_pp=max_drop,
        data=data,
        budget=budget,
        workers=workers,
        recipe=recipe,
        compile_for=tuple(compile_for or ()),
    )
    with progress() as steps:
        made = export(request, steps)
    if as_json:
        print_json(export_json(made))
    else:
        print_tables(*export_tables(made))
