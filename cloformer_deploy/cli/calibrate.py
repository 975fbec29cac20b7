"""`cloformer-deploy calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import JsonOption, parse_color, parse_size, print_json, print_tables, progress
from cloformer_deploy.networks.base import COLORS, PUBLISHED_COLOR


def command(
    # Text, not a path, which would be the same for `rendered` and `./rendered`.
    images: Annotated[
        str,
        typer.Argument(
            help="Folder of images, with one sub-folder per class or with images/ and masks/; or rendered or scenes, "
            "for what the bundled weights were trained on.",
            metavar="IMAGES",
        ),
    ],
    output: Annotated[Path, typer.Option(help="The file to write.", metavar="FILE")],
    count: Annotated[
        int, typer.Option(min=1, max=100_000, help="Number of images, evenly over the classes.", metavar="N")
    ] = 256,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the choice.", metavar="S")] = 0,
    input_size: Annotated[
        str, typer.Option(help="Height and width in pixels, multiples of 32.", metavar="N|HxW")
    ] = "224",
    color: Annotated[
        str, typer.Option(help=f"Channels of the model's images: {', '.join(COLORS)}.", metavar="COLOR")
    ] = PUBLISHED_COLOR,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Leave out the margin that is cropped off images for classifiers: for segmentation and detection. "
            "Set by itself for folders with masks/ or COCO annotations, and for scenes.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Choose calibration images for quantization, and write their pixels to one file."""
    height, width = parse_size(input_size)

    from cloformer_deploy.data import Preprocessing, make_calibration
    from cloformer_deploy.data.coco import is_coco
    from cloformer_deploy.data.masks import has_masks
    from cloformer_deploy.report import calibration_json, calibration_tables

    if images != "rendered":
        whole = whole or images == "scenes" or has_masks(Path(images)) or is_coco(Path(images))
    preprocessing = Preprocessing.published(height, width, parse_color(color), margin=not whole)
    with progress() as steps:
        made = make_calibration(images, count, seed, preprocessing, output, steps)
    if as_json:
        print_json(calibration_json(made))
    else:
        print_tables(*calibration_tables(made))
