"""A bundle for NPUs."""

from pathlib import Path

import pytest

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, make_calibration
from cloformer_deploy.export.pipeline import export
from cloformer_deploy.export.request import ExportRequest
from cloformer_deploy.progress import Silent
from tests.once import made_once
from tests.tiny import TRAINED, TRAINED_SIDE


@pytest.fixture(scope="session")
def hexagon_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained classifier for Hexagon, fp32 and int8."""

    def make(folder: Path) -> None:
        sides = (TRAINED_SIDE, TRAINED_SIDE)
        make_calibration("rendered", 32, 0, Preprocessing.published(*sides), folder / "set", Silent())
        request = ExportRequest(
            ("onnx",),
            ("fp32", "int8"),
            weights=str(TRAINED),
            target="hexagon",
            calibration=folder / "set",
            height=TRAINED_SIDE,
            width=TRAINED_SIDE,
            output=folder / "bundle",
        )
        export(request, Silent())

    return Bundle.open(made_once(tmp_path_factory, "hexagon", make) / "bundle")
