"""`cloformer-deploy inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloformer_deploy.cli.options import JsonOption, print_json, print_tables, progress

if TYPE_CHECKING:
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.npu import Npu


def command(
    path: Annotated[Path, typer.Argument(help="An exported file, or a bundle.", metavar="ARTIFACT|BUNDLE")],
    placement: Annotated[
        str | None,
        typer.Option(
            help="Ask the compiler of this NPU which operators run on it: hexagon-v75, ethos-u85-256, ... (see docs/npu.md).",
            metavar="DEVICE",
            show_default="none",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show inputs, outputs, operators, size and metadata of a file, and what limits it on its runtime."""
    from cloformer_deploy.backends.registry import BACKENDS
    from cloformer_deploy.bundle import MANIFEST_NAME, Bundle
    from cloformer_deploy.errors import BundleError
    from cloformer_deploy.npu import npu_of

    npu = None if placement is None else npu_of(placement)
    if not path.is_file() and not path.is_dir():
        raise BundleError(f"{path} is no file or folder", "give an exported file or a bundle")
    if path.name == MANIFEST_NAME:
        raise BundleError(f"{path} is a manifest", f"give its folder, {path.parent}")
    if path.is_dir() and path.suffix not in {item.suffix for item in BACKENDS.values()}:
        _inspect_bundle(Bundle.open(path), npu, as_json)
    else:
        _inspect_file(path, npu, as_json)


def _inspect_bundle(bundle: "Bundle", npu: "Npu | None", as_json: bool) -> None:
    from cloformer_deploy.backends.inspection import inspect
    from cloformer_deploy.npu import no_artifact
    from cloformer_deploy.report import bundle_json, bundle_tables, placement_tables

    artifacts = bundle.manifest.artifacts
    chosen = [item for item in artifacts if npu is not None and npu.takes(item.key)]
    if npu is not None and not chosen:
        raise no_artifact(npu, bundle.root)
    inspected, compiled = [], {}
    with progress() as steps:
        steps.step("Checking the bundle")
        bundle.verify()
        for item in artifacts:
            steps.step(f"Inspecting {item.path}")
            inspected.append(inspect(bundle.path(item)))
            if npu is not None and item in chosen:
                steps.step(f"Compiling {item.path} for {npu.title}")
                compiled[item.path] = npu.compile(bundle.path(item))
    if as_json:
        print_json(bundle_json(bundle, inspected, compiled))
        return
    print_tables(*bundle_tables(bundle, inspected))
    for name, found in compiled.items():
        if npu is not None:
            print_tables(*placement_tables(name, npu, found))


def _inspect_file(path: Path, npu: "Npu | None", as_json: bool) -> None:
    from cloformer_deploy.backends.inspection import inspect
    from cloformer_deploy.report import inspection_json, inspection_tables, placement_tables

    with progress() as steps:
        steps.step(f"Inspecting {path}")
        inspection = inspect(path)
        compiled = None
        if npu is not None:
            steps.step(f"Compiling {path} for {npu.title}")
            compiled = npu.compile(path)
    if as_json:
        print_json(inspection_json(inspection, compiled))
        return
    print_tables(*inspection_tables(path, inspection))
    if npu is not None and compiled is not None:
        print_tables(*placement_tables(path.name, npu, compiled))
