"""Bundles for the command line's tests, one drafted and one exported for real, copied by hard links; and noise."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cloformer_deploy import __version__
from cloformer_deploy.bundle import BundleWriter, digest, size_bytes
from cloformer_deploy.bundle.manifest import Artifact, Interface, Manifest, OutputTensor, Weights, weights_name
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.weights.checkpoints import checkpoint_bytes, load_checkpoint
from cloformer_deploy.weights.zoo import resolve_weights
from tests.cli.command_line import CLASSES, EXPORT, CopyBundle, save, small_model, spawn, tree
from tests.cli.noise import IMAGES, classes_seen
from tests.once import made_once

# A failing assertion in these explains itself, as it would in a test.
pytest.register_assert_rewrite("tests.cli.contract", "tests.cli.refusals")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of torch that wait for a busy core make small work slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def copier(bundle: Path, folder: Path) -> CopyBundle:
    """Copies a bundle into a folder, by hard links."""

    def copy(name: str = "bundle") -> Path:
        return Path(shutil.copytree(bundle, folder / name, copy_function=os.link))

    return copy


@pytest.fixture(scope="session")
def drafted_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bundled weights and a small ONNX file that is not the model; everything else is as export writes it."""
    root = tmp_path_factory.mktemp("drafted") / "bundle"
    checkpoint = load_checkpoint(resolve_weights())
    assert checkpoint.num_classes == CLASSES
    copy = checkpoint_bytes(checkpoint)
    sha256 = hashlib.sha256(copy).hexdigest()
    weights = Weights(name=checkpoint.name, sha256=checkpoint.sha256, file=weights_name(sha256), file_sha256=sha256)
    head = Manifest(
        schema_version=2,
        tool_version=__version__,
        task=checkpoint.task,
        network=checkpoint.network,
        variant=checkpoint.variant,
        architecture=checkpoint.architecture,
        labels=checkpoint.labels,
        weights=weights,
        preprocessing=Preprocessing.published(224, 224),
    )
    with BundleWriter(root, head, overwrite=False) as writer:
        writer.staging.joinpath(weights.file).write_bytes(copy)
        made = save(small_model(), writer.staging / "cloformer_xxs-fp32.onnx")
        artifact = Artifact(
            path=made.name,
            format="onnx",
            precision="fp32",
            target="cpu",
            sha256=digest(made),
            bytes=size_bytes(made),
            input=Interface(kind="tensor", batch=1),
            outputs=(OutputTensor(name="logits", shape=(1, CLASSES), dtype="float32"),),
            options={},
            created_with={"onnx": "0"},
        )
        writer.commit([artifact])
    before = tree(root)
    yield root
    assert tree(root) == before


@pytest.fixture
def drafted(drafted_bundle: Path, tmp_path: Path) -> CopyBundle:
    """`drafted(name="bundle")`: a copy of the drafted bundle in this test's folder, free to be damaged."""
    return copier(drafted_bundle, tmp_path)


@pytest.fixture(scope="session")
def exported_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny weights exported to ONNX, fp32 and fp16, by a process of its own, and its answer in the same folder.

    One of the processes that run the tests exports, for all.
    """

    def make(folder: Path) -> None:
        precisions = ("--precision", "fp32", "--precision", "fp16")
        made = spawn(*EXPORT, *precisions, "--json", cwd=folder)
        assert made.code == 0, made.stderr
        (folder / "answer.json").write_text(made.stdout)

    folder = made_once(tmp_path_factory, "exported", make)
    before = tree(folder)
    yield folder / "bundle"
    assert tree(folder) == before


@pytest.fixture
def exported(exported_bundle: Path, tmp_path: Path) -> CopyBundle:
    """`exported(name="bundle")`: a copy of the exported bundle in this test's folder, free to be damaged."""
    return copier(exported_bundle, tmp_path)


@pytest.fixture(scope="session")
def pixels() -> NDArray[np.uint8]:
    """Seeded noise, coarse and bright enough for the classes to differ."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (IMAGES, 4, 4, 3), np.uint8)
    noise = rng.integers(0, 40, (IMAGES, 224, 224, 3), np.uint8)
    made: NDArray[np.uint8] = np.minimum(coarse.repeat(56, axis=1).repeat(56, axis=2), 215) + noise
    return made


@pytest.fixture(scope="session")
def predicted(pixels: NDArray[np.uint8]) -> list[int]:
    """The classes that the bundled weights see in the noise."""
    return classes_seen(resolve_weights(), pixels)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this test's folder, on a terminal of 80 columns without colors."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    assert Path.cwd() == Path(os.path.realpath(tmp_path))
