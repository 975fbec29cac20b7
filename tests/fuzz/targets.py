"""The parsers of untrusted files, each as a function of bytes.

Only a `CloformerDeployError` may leave a parser; a target lets everything else through.
"""

import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cloformer_deploy.backends.coreml.describe import describe as describe_coreml
from cloformer_deploy.backends.coreml.interpreter import Program
from cloformer_deploy.backends.onnx.describe import describe as describe_onnx
from cloformer_deploy.backends.tflite.describe import describe as describe_tflite
from cloformer_deploy.bundle import MANIFEST_NAME, Bundle
from cloformer_deploy.data.calibration import open_calibration
from cloformer_deploy.errors import CloformerDeployError
from cloformer_deploy.gate import read_baseline, read_config
from cloformer_deploy.weights.checkpoints import load_checkpoint

Target = Callable[[bytes, Path], None]
"""Reads bytes as a file of one kind; the folder is empty, and is the target's own."""

CORPUS = Path(__file__).with_name("corpus")
STORAGE_BYTES = 256
"""Size of the storages `0`, `1` and `2` in the archives of `weights`."""


def weights(data: bytes, folder: Path) -> None:
    """Read a weights file. Bytes after `pkl:` are the pickle of a valid archive, which has checksums of its own."""
    path = folder / "weights.bin"
    path.write_bytes(_archive(data[4:]) if data.startswith(b"pkl:") else data)
    load_checkpoint(path)


def programs(data: bytes, folder: Path) -> None:
    """Read a program of `torch.export`. Bytes after `json:` are the graph of the archive in the corpus."""
    if data.startswith(b"json:"):
        data = _with_graph(data[5:])
    path = folder / "program.pt2"
    path.write_bytes(data)
    load_checkpoint(path)


def _with_graph(graph: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(CORPUS / "programs" / "valid.pt2") as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, graph if entry.filename.endswith("models/model.json") else old.read(entry))
    return made.getvalue()


def _archive(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/byteorder", "little")
        for key in range(3):
            file.writestr(f"archive/data/{key}", bytes(STORAGE_BYTES))
    return buffer.getvalue()


def manifests(data: bytes, folder: Path) -> None:
    """Read a bundle's manifest, a baseline and a configuration of the gate."""
    for name in (MANIFEST_NAME, "baseline.json", "drift.toml"):
        (folder / name).write_bytes(data)
    with suppress(CloformerDeployError):
        Bundle.open(folder)
    with suppress(CloformerDeployError):
        baseline = read_baseline(folder / "baseline.json")
        for item in baseline.artifacts:
            baseline.evidence(item)
    with suppress(CloformerDeployError):
        read_config(folder / "drift.toml")


def calibration(data: bytes, folder: Path) -> None:
    """Read a calibration set and all its images."""
    path = folder / "set.safetensors"
    path.write_bytes(data)
    opened = open_calibration(path)
    for _ in opened.batches(opened.preprocessing, 4):
        pass


def mlpackage(data: bytes, folder: Path) -> None:
    """Read a Core ML package: the sizes of its manifest and of its protobuf (two bytes each), both, and the weights."""
    root = folder / "a.mlpackage"
    model = root / "Data" / "com.apple.CoreML"
    (model / "weights").mkdir(parents=True, exist_ok=True)
    first, second = (int.from_bytes(data[start : start + 2], "little") for start in (0, 2))
    parts = io.BytesIO(data[4:])
    (root / "Manifest.json").write_bytes(parts.read(first))
    (model / "model.mlmodel").write_bytes(parts.read(second))
    (model / "weights" / "weight.bin").write_bytes(parts.read())
    with suppress(CloformerDeployError):
        describe_coreml(root)
    Program.load(root)


def tflite(data: bytes, folder: Path) -> None:
    """Describe a TFLite file."""
    path = folder / "a.tflite"
    path.write_bytes(data)
    describe_tflite(path)


def onnx(data: bytes, folder: Path) -> None:
    """Describe an ONNX file."""
    path = folder / "a.onnx"
    path.write_bytes(data)
    describe_onnx(path)


TARGETS: dict[str, Target] = {
    item.__name__: item for item in (manifests, calibration, weights, programs, onnx, mlpackage, tflite)
}


def seeds(name: str) -> list[Path]:
    """Return the files of a target's corpus."""
    return sorted((CORPUS / name).iterdir())
