"""`cloformer-deploy inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import JsonOption, print_json, print_tables, progress


def command(
    path: Annotated[Path, typer.Argument(help="An exported file, or a bundle.", metavar="ARTIFACT|BUNDLE")],
    as_json: JsonOption = False,
) -> None:
    """Show what a file holds: interface, operators, size and its own metadata. Nothing is run."""
    from cloformer_deploy.bundle import MANIFEST_NAME, Bundle
    from cloformer_deploy.errors import BundleError
    from cloformer_deploy.formats import format_of
    from cloformer_deploy.report import (
        bundle_json,
        bundle_tables,
        description_json,
        description_tables,
    )

    if not path.is_file() and not path.is_dir():
        raise BundleError(f"{path} is no file or folder", "give an exported file or a bundle")
    if path.is_dir() and path.suffix != ".mlpackage":
        bundle = Bundle.open(path)
        files = [bundle.path(item) for item in bundle.manifest.artifacts]
        with progress() as steps:
            steps.step("Checking the bundle")
            bundle.verify()
            steps.step("Reading its artefacts")
            described = [format_of(file).describe(file) for file in files]
        if as_json:
            print_json(bundle_json(bundle, described))
        else:
            print_tables(*bundle_tables(bundle, described))
        return
    if path.name == MANIFEST_NAME:
        raise BundleError(f"{path} is a manifest", f"give its folder, {path.parent}")
    file_format = format_of(path)
    with progress() as steps:
        steps.step(f"Reading {path}")
        description = file_format.describe(path)
    if as_json:
        print_json(description_json(description))
    else:
        print_tables(*description_tables(path, description))
