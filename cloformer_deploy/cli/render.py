"""`cloformer-deploy render`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import JsonOption, parse_size, print_json, print_tables, progress
from cloformer_deploy.errors import RequestError

FORMS = ("classes", "masks", "coco")


def command(
    output: Annotated[Path, typer.Option(help="Folder to write.", metavar="DIR")],
    split: Annotated[
        str, typer.Option(help="train, validation, calibration or test; no image is in two.", metavar="SPLIT")
    ] = "test",
    first: Annotated[int, typer.Option(min=0, help="Index of the first image.", metavar="N")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Number of images.", metavar="N")] = 1000,
    form: Annotated[
        str,
        typer.Option(
            help="classes: images of one object, one sub-folder per class. masks: scenes of several objects in images/ "
            "and masks/. coco: scenes in images/, and annotations.json.",
            metavar="|".join(FORMS),
        ),
    ] = "classes",
    size: Annotated[str, typer.Option(help="Sides of scenes in pixels, multiples of 32.", metavar="N|HxW")] = "224",
    as_json: JsonOption = False,
) -> None:
    """Write images of the rendered tasks, on which the bundled weights were trained, as PNG files."""
    from cloformer_deploy.data import Preprocessing
    from cloformer_deploy.data.rendered import SIZE, SPLITS, RenderedImages, RenderedScenes
    from cloformer_deploy.data.rendered.writing import write_coco, write_folder, write_masks

    if split not in SPLITS:
        raise RequestError(f"there is no split {split!r}", f"choose from {', '.join(SPLITS)}")
    if form not in FORMS:
        raise RequestError(f"there is no form {form!r}", f"choose from {', '.join(FORMS)}")
    sides = parse_size(size, "--size")
    Preprocessing.published(*sides)  # rejects other sizes
    if form == "classes" and sides != (SIZE, SIZE):
        raise RequestError(f"images of one object are {SIZE} x {SIZE} pixels, not {size}", "leave --size out")
    indices = range(first, first + count)
    with progress() as steps:
        if form == "classes":
            images = RenderedImages(split, indices)
            write_folder(images, output, steps)
            name = images.name
        else:
            write = write_masks if form == "masks" else write_coco
            write(split, indices, sides, output, steps)
            name = RenderedScenes(split, indices).name
    if as_json:
        answer = {"output": str(output), "split": split, "first": first, "count": count, "form": form}
        print_json({"schema_version": 1, **answer})
    else:
        print_tables(f"{count} images ({name}) in {output}")
