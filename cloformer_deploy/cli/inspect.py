"""`cloformer-deploy inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloformer_deploy.cli.options import JsonOption, OverlayOption, print_json, print_tables, progress

if TYPE_CHECKING:
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.npu import Placer


def command(
    path: Annotated[Path, typer.Argument(help="An exported file, or a bundle.", metavar="ARTIFACT|BUNDLE")],
    placement: Annotated[
        str | None,
        typer.Option(
            help="Ask this NPU's compiler what runs on it: hexagon-v75, ethos-u85-256, ... (see docs/npu.md).",
            metavar="DEVICE",
            show_default="none",
        ),
    ] = None,
    overlay: OverlayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show inputs, outputs, operators, size and metadata of a file, and what limits it on its runtime."""
    from cloformer_deploy.backends.registry import BACKENDS
    from cloformer_deploy.bundle import MANIFEST_NAME, Bundle
    from cloformer_deploy.errors import BundleError, RequestError
    from cloformer_deploy.npu import placer_of

    if overlay is not None and placement is None:
        raise RequestError("--overlay shows a placement, and none is asked for", "add --placement DEVICE")
    placer = None if placement is None else placer_of(placement)
    if not path.is_file() and not path.is_dir():
        raise BundleError(f"{path} is no file or folder", "give an exported file or a bundle")
    if path.name == MANIFEST_NAME:
        raise BundleError(f"{path} is a manifest", f"give its folder, {path.parent}")
    if path.is_dir() and path.suffix not in {item.suffix for item in BACKENDS.values()}:
        if overlay is not None:
            raise RequestError(f"--overlay is for one file, and {path} is a bundle", "give one of its artifacts")
        _inspect_bundle(Bundle.open(path), placer, as_json)
    else:
        _inspect_file(path, placer, overlay, as_json)


def _inspect_bundle(bundle: "Bundle", placer: "Placer | None", as_json: bool) -> None:
    from cloformer_deploy.backends.inspection import inspect
    from cloformer_deploy.npu import no_artifact
    from cloformer_deploy.report import bundle_json, bundle_tables, placement_tables

    artifacts = bundle.manifest.artifacts
    chosen = [item for item in artifacts if placer is not None and placer.takes(item.key)]
    if placer is not None and not chosen:
        raise no_artifact(placer, bundle.root)
    inspected, compiled = [], {}
    with progress() as steps:
        steps.step("Checking the bundle")
        bundle.verify()
        for item in artifacts:
            steps.step(f"Inspecting {item.path}")
            inspected.append(inspect(bundle.path(item)))
            if placer is not None and item in chosen:
                steps.step(f"Compiling {item.path} for {placer.title}")
                compiled[item.path] = placer.compile(bundle.path(item))
    if as_json:
        print_json(bundle_json(bundle, inspected, compiled))
        return
    print_tables(*bundle_tables(bundle, inspected))
    for name, found in compiled.items():
        if placer is not None:
            print_tables(*placement_tables(name, placer, found))


def _inspect_file(path: Path, placer: "Placer | None", overlay: Path | None, as_json: bool) -> None:
    from cloformer_deploy.backends.inspection import inspect
    from cloformer_deploy.report import inspection_json, inspection_tables, placement_tables
    from cloformer_deploy.report.overlay import check_overlay, placement_overlay, write_overlay

    with progress() as steps:
        steps.step(f"Inspecting {path}")
        inspection = inspect(path)
        compiled = None
        if overlay is not None:
            check_overlay(overlay, inspection.description.format)
        if placer is not None:
            steps.step(f"Compiling {path} for {placer.title}")
            compiled = placer.compile(path)
            if overlay is not None:
                data = placement_overlay(path, inspection.description.format, placer, compiled)
                write_overlay(overlay, data)
    if as_json:
        print_json(inspection_json(inspection, compiled))
        return
    print_tables(*inspection_tables(path, inspection))
    if placer is not None and compiled is not None:
        print_tables(*placement_tables(path.name, placer, compiled))
