"""Bundles for NPUs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, make_calibration
from cloformer_deploy.exporting.float_layers import ExcludedLayers, write_excluded_layers
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent
from cloformer_deploy.weights.checkpoints import load_checkpoint
from tests.once import made_once
from tests.tiny import TRAINED, TRAINED_SIDE

WIDE = ("layers.0.blocks.0", "patch_embed")


@pytest.fixture(scope="session")
def hexagon_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained classifier for Hexagon, fp32, int8 and w8a16."""
    return exported(tmp_path_factory, "onnx", "hexagon", ("fp32", "int8", "w8a16"), {})


@pytest.fixture(scope="session")
def mixed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained classifier for Hexagon in int8, with two layers in 16 bits."""
    return exported(tmp_path_factory, "onnx", "hexagon", ("int8",), {}, WIDE)


@pytest.fixture(scope="session")
def ethos_u_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained classifier for Ethos-U, int8 and w8a16, with integer input and output."""
    return exported(tmp_path_factory, "tflite", "ethos-u", ("int8", "w8a16"), {"integer_io": True})


def exported(
    folders: pytest.TempPathFactory,
    name: str,
    target: str,
    precisions: tuple[str, ...],
    options: Mapping[str, bool],
    wide: Sequence[str] = (),
) -> Bundle:
    """The small trained classifier in one format for one target; `wide` layers are excluded from its int8 file."""

    def make(folder: Path) -> None:
        exclusions = None
        if wide:
            exclusions = folder / "exclusions.json"
            sha256 = load_checkpoint(TRAINED).sha256
            write_excluded_layers(
                exclusions,
                ExcludedLayers(
                    schema_version=2,
                    weights_sha256=sha256,
                    format=name,
                    precision=precisions[0],
                    target=target,
                    excluded_layers=tuple(wide),
                ),
            )
        sides = (TRAINED_SIDE, TRAINED_SIDE)
        make_calibration("rendered", 32, 0, Preprocessing.published(*sides), folder / "set", Silent())
        request = ExportRequest(
            (name,),
            precisions,
            weights=str(TRAINED),
            target=target,
            options=options,
            exclusions=exclusions,
            calibration=folder / "set",
            height=TRAINED_SIDE,
            width=TRAINED_SIDE,
            output=folder / "bundle",
        )
        export(request, Silent())

    return Bundle.open(made_once(folders, f"{target}-mixed" if wide else target, make) / "bundle")
