"""Bundles for NPUs."""

from collections.abc import Mapping
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
    return exported(tmp_path_factory, "onnx", "hexagon", ("fp32", "int8"), {})


@pytest.fixture(scope="session")
def ethos_u_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained classifier for Ethos-U, int8 and w8a16, with integer input and output."""
    return exported(tmp_path_factory, "tflite", "ethos-u", ("int8", "w8a16"), {"integer_io": True})


def exported(
    folders: pytest.TempPathFactory, name: str, target: str, precisions: tuple[str, ...], options: Mapping[str, bool]
) -> Bundle:
    """The small trained classifier in one format for one target."""

    def make(folder: Path) -> None:
        sides = (TRAINED_SIDE, TRAINED_SIDE)
        make_calibration("rendered", 32, 0, Preprocessing.published(*sides), folder / "set", Silent())
        request = ExportRequest(
            (name,),
            precisions,
            weights=str(TRAINED),
            target=target,
            options=options,
            calibration=folder / "set",
            height=TRAINED_SIDE,
            width=TRAINED_SIDE,
            output=folder / "bundle",
        )
        export(request, Silent())

    return Bundle.open(made_once(folders, target, make) / "bundle")
