"""A bundle of two small ONNX files that really run, one with twelve convolutions and one with one."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from cloformer_deploy import __version__
from cloformer_deploy.backends.device_opener import Opener
from cloformer_deploy.backends.onnx.format import OnnxBackend
from cloformer_deploy.backends.registry import BACKENDS, backend_of, default_target
from cloformer_deploy.bundle import Bundle, BundleWriter, digest, size_bytes
from cloformer_deploy.bundle.manifest import Artifact, Interface, Manifest, OutputTensor, Weights, weights_name
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.networks.cloformer import VARIANTS
from tests.cli.command_line import CLASSES, put, save, small_model

SLOW, FAST = "cloformer_xxs-fp32.onnx", "cloformer_xxs-fp16.onnx"
WEIGHTS = b"a stand-in, which bench verifies and does not read"
Files = Mapping[str, bytes | Mapping[str, bytes]]
MakeBundle = Callable[[Files], Bundle]


def convolutions(count: int) -> Any:
    """Return a model that computes convolutions of the image, then `small_model`."""
    model = small_model()
    graph = model.graph
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32) / 5
    graph.initializer.append(numpy_helper.from_array(kernel, "kernel"))
    names = ["image", *(f"image{index}" for index in range(count))]
    for index in range(count):
        edges = [names[index], "kernel"], [names[index + 1]]
        graph.node.insert(index, helper.make_node("Conv", *edges, pads=[1, 1, 1, 1]))
    graph.node[count].input[0] = names[count]
    return model


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> MakeBundle:
    """`make_bundle(files)`: a bundle of files by name; a mapping is a folder of files."""

    def make(files: Files) -> Bundle:
        root = tmp_path_factory.mktemp("bench") / "exports" / "small"
        sha256 = hashlib.sha256(WEIGHTS).hexdigest()
        head = Manifest(
            schema_version=2,
            tool_version=__version__,
            task="classification",
            network="cloformer",
            variant="xxs",
            architecture=VARIANTS["xxs"].of_classes(CLASSES).as_json(),
            labels=None,
            weights=Weights(name="small", sha256=sha256, file=weights_name(sha256), file_sha256=sha256),
            preprocessing=Preprocessing.published(224, 224),
        )
        with BundleWriter(root, head, overwrite=False) as writer:
            put(writer.staging / head.weights.file, WEIGHTS)
            for name, content in files.items():
                for inner, data in content.items() if not isinstance(content, bytes) else [("", content)]:
                    path = writer.staging / name / inner
                    path.parent.mkdir(parents=True, exist_ok=True)
                    put(path, data)
            writer.commit([_artifact(writer.staging / name) for name in files])
        return Bundle.open(root)

    return make


def _artifact(path: Path) -> Artifact:
    backend = backend_of(path)
    return Artifact(
        path=path.name,
        format=backend.name,
        precision=path.stem.rpartition("-")[2],
        target=default_target(backend.name),
        sha256=digest(path),
        bytes=size_bytes(path),
        input=Interface(kind="tensor", batch=1),
        outputs=(OutputTensor(name="logits", shape=(1, CLASSES), dtype="float32"),),
        options={},
        created_with={"onnx": "0"},
    )


@pytest.fixture
def set_opener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`set_opener(text, **changes)`: let `bench` open ONNX files with an opener of this text, which needs numpy only.

    `changes` are other attributes of the `Opener`, and `input_layout`, that of the format.
    """

    def replace(text: str, input_layout: Any = "NCHW", **changes: Any) -> None:
        path = tmp_path / "toy_opener.py"
        path.write_text(text)
        backend = OnnxBackend()
        backend.input_layout = input_layout
        backend.opener = Opener(**{"path": path, "modules": ("numpy",), "packages": "numpy", **changes})
        monkeypatch.setitem(BACKENDS, "onnx", backend)

    return replace


@pytest.fixture(scope="session")
def onnx_bundle(make_bundle: MakeBundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Not to be written into."""
    folder = tmp_path_factory.mktemp("files")
    slow, fast = save(convolutions(12), folder / "slow"), save(convolutions(1), folder / "fast")
    return make_bundle({SLOW: slow.read_bytes(), FAST: fast.read_bytes()})
