"""`cloformer-deploy render`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import JsonOption, print_json, print_tables, progress
from cloformer_deploy.errors import RequestError


def command(
    output: Annotated[Path, typer.Option(help="Folder to write, one sub-folder per class.", metavar="DIR")],
    split: Annotated[
        str, typer.Option(help="train, validation, calibration or test; no image is in two.", metavar="SPLIT")
    ] = "test",
    first: Annotated[int, typer.Option(min=0, help="Index of the first image.", metavar="N")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Number of images.", metavar="N")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Write images of the rendered task, on which the bundled weights were trained, as PNG files."""
    from cloformer_deploy.data.rendered import SPLITS, RenderedImages
    from cloformer_deploy.data.rendered.writing import write_folder

    if split not in SPLITS:
        raise RequestError(f"there is no split {split!r}", f"choose from {', '.join(SPLITS)}")
    images = RenderedImages(split, range(first, first + count))
    with progress() as steps:
        write_folder(images, output, steps)
    if as_json:
        answer = {"output": str(output), "split": split, "first": first, "count": count}
        print_json({"schema_version": 1, **answer})
    else:
        print_tables(f"{count} images ({images.name}) in {output}")
