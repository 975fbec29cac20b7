"""`cloformer-deploy inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import JsonOption, print_json, print_tables, progress


def command(
    path: Annotated[Path, typer.Argument(help="An exported file, or a bundle.", metavar="ARTIFACT|BUNDLE")],
    as_json: JsonOption = False,
) -> None:
    """Show inputs, outputs, operators, size and metadata of a file, and what limits it on its runtime."""
    from cloformer_deploy.backends.inspection import inspect
    from cloformer_deploy.backends.registry import BACKENDS
    from cloformer_deploy.bundle import MANIFEST_NAME, Bundle
    from cloformer_deploy.errors import BundleError
    from cloformer_deploy.report import (
        bundle_json,
        bundle_tables,
        inspection_json,
        inspection_tables,
    )

    if not path.is_file() and not path.is_dir():
        raise BundleError(f"{path} is no file or folder", "give an exported file or a bundle")
    if path.is_dir() and path.suffix not in {item.suffix for item in BACKENDS.values()}:
        bundle = Bundle.open(path)
        files = [bundle.path(item) for item in bundle.manifest.artifacts]
        with progress() as steps:
            steps.step("Checking the bundle")
            bundle.verify()
            inspected = []
            for file in files:
                steps.step(f"Inspecting {file.name}")
                inspected.append(inspect(file))
        if as_json:
            print_json(bundle_json(bundle, inspected))
        else:
            print_tables(*bundle_tables(bundle, inspected))
        return
    if path.name == MANIFEST_NAME:
        raise BundleError(f"{path} is a manifest", f"give its folder, {path.parent}")
    with progress() as steps:
        steps.step(f"Inspecting {path}")
        inspection = inspect(path)
    if as_json:
        print_json(inspection_json(inspection))
    else:
        print_tables(*inspection_tables(path, inspection))
