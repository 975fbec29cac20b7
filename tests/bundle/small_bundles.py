"""Small bundles of made-up contents: written, examined and rejected."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from cloformer_deploy.bundle import Bundle, BundleWriter, digest, size_bytes
from cloformer_deploy.bundle.manifest import Artifact, Interface, Manifest, OutputTensor, Weights, weights_name
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import BundleError
from cloformer_deploy.networks.cloformer import VARIANTS

FILE, FOLDER, OTHER = "cloformer_xxs-fp32.onnx", "cloformer_xxs-fp32.mlpackage", "cloformer_xxs-int8.tflite"
KINDS = {".onnx": ("onnx", "cpu"), ".mlpackage": ("coreml", "ane"), ".tflite": ("tflite", "cpu")}
Tree = dict[str, bytes | str | None]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def head(weights: str = "first", labels: tuple[str, ...] | None = ("a", "b"), side: int = 224) -> Manifest:
    """Return the manifest without artifacts, with which an export begins."""
    copy = sha256(copy_of_weights(weights, labels))
    return Manifest(
        schema_version=2,
        tool_version="1",
        task="classification",
        network="cloformer",
        variant="xxs",
        architecture=VARIANTS["xxs"].of_classes(2).as_json(),
        labels=labels,
        weights=Weights(name=weights, sha256=sha256(weights.encode()), file=weights_name(copy), file_sha256=copy),
        preprocessing=Preprocessing.published(side, side),
    )


def copy_of_weights(name: str, labels: tuple[str, ...] | None) -> bytes:
    """Return a stand-in for the safetensors copy, whose bytes depend on the labels too."""
    return f"{name} with labels {labels}".encode()


def write(path: Path, content: str) -> Path:
    """Write a file; for an .mlpackage, a folder of three files whose contents differ."""
    if path.suffix != ".mlpackage":
        path.write_text(content)
        return path
    (path / "Data" / "weights").mkdir(parents=True)
    for name in ("Manifest.json", "Data/model.mlmodel", "Data/weights/weight.bin"):
        (path / name).write_text(f"{name}: {content}")
    return path


def artifact(path: Path) -> Artifact:
    return Artifact(
        path=path.name,
        format=KINDS[path.suffix][0],
        precision="fp32",
        target=KINDS[path.suffix][1],
        sha256=digest(path),
        bytes=size_bytes(path),
        input=Interface(kind="tensor", batch=1),
        outputs=(OutputTensor(name="logits", shape=(1, 2), dtype="float32"),),
        options={},
        created_with={},
    )


def stage(writer: BundleWriter, names: tuple[str, ...], content: str) -> list[Artifact]:
    """Do what the pipeline does inside the `with`: write the copy of the weights, then the artifacts."""
    writer.staging.joinpath(writer.head.weights.file).write_bytes(
        copy_of_weights(writer.head.weights.name, writer.head.labels)
    )
    return [artifact(write(writer.staging / name, f"{content} {name}")) for name in names]


def export(
    root: Path, *names: str, content: str = "1", manifest: Manifest | None = None, overwrite: bool = False
) -> Bundle:
    with BundleWriter(root, manifest or head(), overwrite=overwrite) as writer:
        return writer.commit(stage(writer, names, content))


def tree(root: Path) -> Tree:
    """Return everything under a folder, hidden or not: bytes of files, targets of links, None for folders."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def assert_whole(root: Path, *names: str) -> None:
    """Check that a bundle matches its manifest, holds these artifacts, and that nothing else is in its folder."""
    bundle = Bundle.open(root)
    bundle.verify()
    assert {item.path for item in bundle.manifest.artifacts} == set(names)
    assert {path.name for path in root.iterdir()} == {*names, "manifest.json", bundle.manifest.weights.file}


def refusal(call: Callable[[], object]) -> BundleError:
    with pytest.raises(BundleError) as caught:
        call()
    assert caught.value.hint
    return caught.value


def failing(writer: BundleWriter, error: BaseException) -> None:
    """Run an export that fails when its artifacts are made but not committed."""

    def work() -> None:
        with writer:
            stage(writer, (FILE, OTHER), "2")
            raise error

    with pytest.raises(type(error)):
        work()
