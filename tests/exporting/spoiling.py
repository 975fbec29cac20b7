"""Bundles with one artifact, which is spoilt."""

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx

from cloformer_deploy.bundle import Bundle, digest
from tests.artifacts import artifact_of


def with_one(bundle: Bundle, folder: Path, format_name: str, precision: str, spoil: Callable[[Path], None]) -> Bundle:
    """Return a copy of a bundle with one artifact, which is spoilt and listed as it is then."""
    artifact = artifact_of(bundle, format_name, precision)
    root = Path(shutil.copytree(bundle.root, folder / "spoiled"))
    spoil(root / artifact.path)
    listed = artifact.model_copy(update={"sha256": digest(root / artifact.path)})
    made = Bundle(root, bundle.manifest.model_copy(update={"artifacts": (listed,)}))
    (root / "manifest.json").write_text(made.manifest.model_dump_json())
    return made


def edited(change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    """Return what changes the graph of an ONNX file."""

    def spoil(path: Path) -> None:
        model = onnx.load(path)
        change(model)
        path.unlink()
        onnx.save(model, path)

    return spoil
