"""A bundle of two small ONNX files that really run, one with twelve convolutions and one with one."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from cloformer_deploy import __version__
from cloformer_deploy.backends.registry import FORMATS
from cloformer_deploy.bundle.bundle import Bundle, BundleWriter, digest, size_bytes
from cloformer_deploy.bundle.manifest import Artifact, Interface, Manifest, Weights, weights_name
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.weights.checkpoints import checkpoint_bytes, load_checkpoint
from cloformer_deploy.weights.zoo import resolve_weights
from tests.cli.command_line import put, save, small_model

SLOW, FAST = "cloformer_xxs-fp32.onnx", "cloformer_xxs-fp16.onnx"
MakeBundle = Callable[[dict[str, bytes]], Bundle]


def convolutions(count: int) -> Any:
    """A model of so many convolutions of the image, then `small_model`."""
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
    """Makes a bundle of files by name, with the bundled weights."""

    def make(files: dict[str, bytes]) -> Bundle:
        root = tmp_path_factory.mktemp("bench") / "exports" / "small"
        checkpoint = load_checkpoint(resolve_weights())
        copy = checkpoint_bytes(checkpoint)
        sha256 = hashlib.sha256(copy).hexdigest()
        head = Manifest(
            schema_version=1,
            tool_version=__version__,
            variant=checkpoint.variant,
            num_classes=checkpoint.num_classes,
            labels=checkpoint.labels,
            weights=Weights(
                name=checkpoint.name, sha256=checkpoint.sha256, file=weights_name(sha256), file_sha256=sha256
            ),
            input=Preprocessing.published(224, 224),
        )
        with BundleWriter(root, head, overwrite=False) as writer:
            put(writer.staging / head.weights.file, copy)
            writer.commit([_artifact(put(writer.staging / name, content)) for name, content in files.items()])
        return Bundle.open(root)

    return make


def _artifact(path: Path) -> Artifact:
    (kind,) = (item for item in FORMATS.values() if item.suffix == path.suffix)
    return Artifact(
        path=path.name,
        format=kind.name,
        precision=path.stem.rpartition("-")[2],
        target=kind.targets[0],
        sha256=digest(path),
        bytes=size_bytes(path),
        input=Interface(kind="tensor", batch=1),
        created_with={"onnx": "0"},
    )


@pytest.fixture(scope="session")
def onnx_bundle(make_bundle: MakeBundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Not to be written into."""
    folder = tmp_path_factory.mktemp("files")
    slow, fast = save(convolutions(12), folder / "slow"), save(convolutions(1), folder / "fast")
    return make_bundle({SLOW: slow.read_bytes(), FAST: fast.read_bytes()})
