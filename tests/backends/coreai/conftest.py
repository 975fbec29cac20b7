"""Small real files for Core AI, and the same for Core ML."""

from dataclasses import replace
from pathlib import Path

import pytest

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, make_calibration
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent
from tests.once import made_once
from tests.tiny import SCENE_BOXES, SCENES, SCENES_SIZE, TRAINED, TRAINED_SIDE


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The trained weights of four blocks at 64 x 64: in Core AI in every precision but p8, in Core ML in floats."""

    def make(folder: Path) -> None:
        calibration, side = folder / "calibration.safetensors", TRAINED_SIDE
        make_calibration("rendered", 32, 0, Preprocessing.published(side, side), calibration, Silent())
        floats = ExportRequest(
            ("coreai", "coreml"), ("fp32", "fp16"), str(TRAINED), height=side, width=side, output=folder / "bundle"
        )
        export(floats, Silent())
        export(replace(floats, formats=("coreai",), precisions=("int8", "w8", "p6"), calibration=calibration), Silent())

    return Bundle.open(made_once(tmp_path_factory, "coreai", make) / "bundle")


@pytest.fixture(scope="session")
def dense_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """The small trained segmenter (images) and detector (tensors, float16), not square, by task."""
    height, width = SCENES_SIZE

    def make(folder: Path) -> None:
        whole = ExportRequest(("coreai",), weights=str(SCENES), height=height, width=width, input_kind="image")
        export(replace(whole, output=folder / "segmentation"), Silent())
        boxes = replace(whole, weights=str(SCENE_BOXES), input_kind="tensor", precisions=("fp16",))
        export(replace(boxes, output=folder / "detection"), Silent())

    folder = made_once(tmp_path_factory, "coreai-dense", make)
    return {task: Bundle.open(folder / task) for task in ("segmentation", "detection")}
