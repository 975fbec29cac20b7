"""Bundles for NPUs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, make_calibration
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.recipe_file import RecipeFile, write_recipe
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent
from cloformer_deploy.weights.checkpoints import load_checkpoint
from tests.once import made_once
from tests.tiny import TRAINED, TRAINED_SIDE

WIDE = ("layers.0.blocks.0", "patch_embed")


@pytest.fixture(scope="session")
def hexagon_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained classifier for Hexagon, fp32, int8 and w8a16."""
    return exported(tmp_path_factory, "onnx", "hexagon", ("fp32", "int8", "w8a16"), {}, kept=("hexagon-v73",))


@pytest.fixture(scope="session")
def mixed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained classifier for Hexagon in int8, with two layers in 16 bits."""
    return exported(tmp_path_factory, "onnx", "hexagon", ("int8",), {}, WIDE)


@pytest.fixture(scope="session")
def ethos_u_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained classifier for Ethos-U, int8 and w8a16, with integer input and output."""
    return exported(
        tmp_path_factory, "tflite", "ethos-u", ("int8", "w8a16"), {"integer_io": True}, kept=("ethos-u55-256",)
    )


def exported(
    folders: pytest.TempPathFactory,
    name: str,
    target: str,
    precisions: tuple[str, ...],
    options: Mapping[str, bool],
    wide: Sequence[str] = (),
    kept: Sequence[str] = (),
) -> Bundle:
    """The small trained classifier in one format for one target; `wide` layers are excluded from its int8 file.

    The forms that are compiled for `kept` NPUs are kept.
    """

    def make(folder: Path) -> None:
        exclusions = None
        if wide:
            exclusions = folder / "exclusions.json"
            sha256 = load_checkpoint(TRAINED).sha256
            write_recipe(
                exclusions,
                RecipeFile(
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
            recipe=exclusions,
            calibration=folder / "set",
            height=TRAINED_SIDE,
            width=TRAINED_SIDE,
            output=folder / "bundle",
            compile_for=kept,
        )
        export(request, Silent())

    return Bundle.open(made_once(folders, f"{target}-mixed" if wide else target, make) / "bundle")
