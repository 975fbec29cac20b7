"""Networks without a head and with other channels go through every format, and faults in their files show.

Each case converts a network of its own, which takes half a minute: nothing shorter shows that converters take them.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.blame import blame, reexport
from cloformer_deploy.bundle import Bundle, digest
from cloformer_deploy.data import Preprocessing, make_calibration, probe_images
from cloformer_deploy.data.rendered import render
from cloformer_deploy.errors import RequestError
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.gate import DriftConfig, gate
from cloformer_deploy.networks.base import Color
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation import validate
from tests.blame.planting import plant, weight_of
from tests.tiny import TINY, TRAINED, as_trained

pytestmark = pytest.mark.integration

SIDE = 64
LAYER = "layers.1.blocks.0.mlp.fc2"


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set made from a folder, because the rendered one is refused for networks of other tasks."""
    folder = tmp_path_factory.mktemp("calibration")
    for index in range(16):
        Image.fromarray(render("calibration", index)).save(folder / f"{index}.png")
    preprocessing = Preprocessing.published(SIDE, SIDE, "LA")
    return make_calibration(str(folder), 16, 0, preprocessing, folder / "gray.safetensors", Silent()).output


@pytest.mark.parametrize(
    ("color", "format_name", "precision"), [("L", "coreml", "fp32"), ("LA", "onnx", "int8"), ("RGBA", "tflite", "fp32")]
)
def test_other_channels(color: Color, format_name: str, precision: str, calibration: Path, tmp_path: Path) -> None:
    architecture = replace(TINY, in_chans=len(color))
    torch.save(as_trained(architecture, seed=0).state_dict(), tmp_path / "weights.pth")
    asked = ExportRequest(
        (format_name,),
        (precision,),
        weights=str(tmp_path / "weights.pth"),
        input_kind="tensor" if format_name == "coreml" else "image",
        height=SIDE,
        width=SIDE,
        calibration=calibration if precision == "int8" else None,
        output=tmp_path / "bundle",
    )
    if format_name == "coreml":
        other = ExportRequest(asked.formats, weights=asked.weights, input_kind="image", output=tmp_path / "image")
        with pytest.raises(RequestError, match="take no images of 1 channels"):
            export(other, Silent())
    made = export(asked, Silent())
    manifest = made.bundle.manifest
    assert (manifest.preprocessing.color, manifest.architecture["in_chans"]) == (color, len(color))
    assert manifest.variant == "custom"
    assert any(text.startswith(f"{color} images with mean") for text in manifest.assumed)
    (shape,) = (output.shape for output in manifest.artifacts[0].outputs)
    assert shape[-1] == TINY.num_classes
    (check,) = made.checks.values()
    low, high = (10, 60) if precision == "int8" else (100, 170)
    assert low < check.sqnr_db < high
    (artifact,) = validate(made.bundle, None, None, Silent()).artifacts
    assert artifact.found is not None
    assert artifact.found.sqnr_db == pytest.approx(check.sqnr_db, abs=10)


@pytest.mark.parametrize("format_name", BACKENDS)
def test_features(format_name: str, tmp_path: Path) -> None:
    asked = ExportRequest(
        (format_name,), weights=str(TRAINED), head="none", height=SIDE, width=SIDE, batch=2, output=tmp_path / "bundle"
    )
    made = export(asked, Silent())
    bundle = made.bundle
    (artifact,) = bundle.manifest.artifacts
    assert (bundle.manifest.task, bundle.manifest.labels) == ("features", None)
    assert [output.name for output in artifact.outputs] == ["c2", "c3", "c4", "c5"]
    sides = {SIDE // stride for stride in (4, 8, 16, 32)}
    assert {shape for output in artifact.outputs for shape in output.shape} >= sides
    (verdict,) = validate(bundle, None, None, Silent()).artifacts
    assert verdict.status == "passed"
    assert verdict.found is not None
    assert verdict.found.score is None
    assert verdict.found.sqnr_db is not None
    assert 100 < verdict.found.sqnr_db < 170

    reexported = reexport(bundle, artifact, tmp_path, None, Silent(), sound=bundle.path(artifact))
    root = Path(shutil.copytree(bundle.root, tmp_path / "spoiled"))
    plant(root / artifact.path, LAYER, weight_of(reexported.reference, LAYER))
    listed = artifact.model_copy(update={"sha256": digest(root / artifact.path)})
    spoiled = Bundle(root, bundle.manifest.model_copy(update={"artifacts": (listed,)}))
    (spoiled.root / "manifest.json").write_text(spoiled.manifest.model_dump_json())
    (verdict,) = validate(spoiled, None, 4, Silent()).artifacts
    assert any(text.startswith(("SQNR", "every map")) for text in verdict.failures)
    (cell,) = gate(spoiled, None, 4, DriftConfig(), None, None, {}, Silent()).cells
    assert {"agreement", "sqnr_db"} <= {check.name for check in cell.checks if check.outcome == "failed"}
    # The maps of a stage lie before its last ConvFFN.
    assert any(text.startswith("c4, c5: not PyTorch's; c2, c3: as PyTorch's") for text in cell.causes)
    found = blame(spoiled, listed, probe_images(2, bundle.manifest.preprocessing), Silent(), reexported=reexported)
    assert found.layers[0].path == LAYER
    assert np.isfinite(found.layers[0].sqnr_db)
