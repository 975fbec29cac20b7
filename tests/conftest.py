"""Fixtures for all tests: the reference material beside the checkout, and weights made from it or at random."""

import importlib.util
import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, make_calibration
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.networks.cloformer import configured, create_model
from cloformer_deploy.progress import Silent
from tests.once import made_once
from tests.processes import Processes
from tests.tiny import SCENE_BOXES, SCENES, SCENES_SIZE, TRAINED, as_trained
from tests.warm import warm_workers

ROOT = Path(__file__).resolve().parents[1]

LONGEST = "test_reference_weights.py"
"""The file that takes the longest: its tests evaluate 1,000 images each."""

OtherPython = Callable[[str], Path]
GoldenStateDict = Callable[..., dict[str, Tensor]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first, the longest of all before them: of what runs side by side, short ones are last."""
    long = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: (item.path.name != LONGEST, item.path not in long))


@pytest.fixture(scope="session", autouse=True)
def _warm_workers() -> Iterator[None]:
    with warm_workers():
        yield


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Start the programs that a test interrupts or kills; whatever is left of them is killed after the test."""
    started = Processes(str(tmp_path))
    yield started
    started.end()


@pytest.fixture(scope="session")
def other_python() -> OtherPython:
    """`other_python("tflite-runtime")`: the Python of the environment that holds a runtime (`make test` builds it).

    Its requirements are in `tests/requirements-*.txt`.
    """

    def find(name: str) -> Path:
        python = ROOT / f".venv-{name}" / "bin" / "python"
        if not python.exists():
            # Some wheels are Linux's; there, a continuous integration without them has failed to install them.
            if os.environ.get("CI") and platform.system() == "Linux":
                pytest.fail(f"the environment of {name} is missing, which `make test` builds")
            pytest.skip(f"needs the environment of {name}, which `make test` builds")
        return python

    return find


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material (golden outputs, images, checkpoints), in or beside the checkout."""
    for folder in (ROOT / "shared", ROOT.parent / "shared"):
        if folder.is_dir():
            return folder
    pytest.skip("needs the reference material in shared/, in or beside the checkout")


@pytest.fixture(scope="session")
def golden_fill(shared: Path) -> ModuleType:
    """The module that makes the golden cases' weights (`fill`) and inputs (`image`)."""
    spec = importlib.util.spec_from_file_location("golden_fill", shared / "golden" / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden_state_dict(shared: Path, golden_fill: ModuleType) -> GoldenStateDict:
    """`golden_state_dict(variant, num_classes=1000)`: the weights under which the golden outputs were made."""

    def build(variant: str, num_classes: int = 1000) -> dict[str, Tensor]:
        shapes = json.loads((shared / "golden" / f"state_dict_{variant}.json").read_text())
        for name in ("head.weight", "head.bias"):
            shapes[name][0] = num_classes
        return {name: torch.from_numpy(golden_fill.fill(name, tuple(shape))) for name, shape in shapes.items()}

    return build


@pytest.fixture(scope="session")
def xxs_weights() -> dict[str, Tensor]:
    """Seeded random weights of xxs with 10 classes, under the published names; not to be changed in place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create_model("xxs", 10).state_dict()


@pytest.fixture(scope="session")
def image_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The trained weights of four blocks with `--input image`, in all formats, fp32 and fp16.

    Their labels make the Core ML files classifiers.
    """
    formats = ("onnx", "coreml", "tflite")
    request = ExportRequest(formats, ("fp32", "fp16"), weights=str(TRAINED), input_kind="image")
    folder = made_once(
        tmp_path_factory, "image", lambda folder: export(replace(request, output=folder / "bundle"), Silent())
    )
    return Bundle.open(folder / "bundle")


@pytest.fixture(scope="session")
def one_logit_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A network with one logit and without local heads, its weights at random, in all formats; not square."""

    def make(folder: Path) -> None:
        splits = ((2,), (2,), (3,), (4,))
        kernels: tuple[tuple[int, ...], ...] = ((), (), (), ())
        small = configured((32, 32, 48, 64), splits, kernel_sizes=kernels, depths=(1, 1, 1, 1), num_classes=1)
        torch.save(as_trained(small, seed=0).state_dict(), folder / "one.pth")
        request = ExportRequest(("onnx", "coreml", "tflite"), weights=str(folder / "one.pth"), height=64, width=96)
        export(replace(request, output=folder / "bundle"), Silent())

    return Bundle.open(made_once(tmp_path_factory, "one-logit", make) / "bundle")


@pytest.fixture(scope="session")
def segmenter_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained segmenter with `--input image` in all formats, fp32; in ONNX also int8, of tensors, two each.

    Not square.
    """
    return Bundle.open(made_once(tmp_path_factory, "segmenter", lambda folder: dense_bundle(SCENES, folder)) / "bundle")


@pytest.fixture(scope="session")
def detector_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained detector, in files like those of `segmenter_bundle`."""
    made = made_once(tmp_path_factory, "detector", lambda folder: dense_bundle(SCENE_BOXES, folder))
    return Bundle.open(made / "bundle")


def dense_bundle(weights: Path, folder: Path) -> None:
    calibration = folder / "calibration.safetensors"
    height, width = SCENES_SIZE
    make_calibration("scenes", 32, 0, Preprocessing.published(height, width, margin=False), calibration, Silent())
    whole = ExportRequest(("onnx", "coreml", "tflite"), weights=str(weights), height=height, width=width)
    export(replace(whole, input_kind="image", output=folder / "bundle"), Silent())
    integers = replace(whole, formats=("onnx",), precisions=("int8",), calibration=calibration, batch=2)
    export(replace(integers, output=folder / "bundle"), Silent())


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The trained weights of four blocks in all formats, fp32, fp16 and int8; the calibration set is beside it.

    Of the published size: XNNPACK corrupts its heap as it loads an int8 TFLite file for 96 x 96.
    """

    def make(folder: Path) -> None:
        calibration = folder / "calibration.safetensors"
        make_calibration("rendered", 32, 0, Preprocessing.published(224, 224), calibration, Silent())
        request = ExportRequest(("onnx", "coreml", "tflite"), ("fp32", "fp16", "int8"), weights=str(TRAINED))
        export(replace(request, calibration=calibration, output=folder / "bundle"), Silent())

    return Bundle.open(made_once(tmp_path_factory, "tiny", make) / "bundle")
