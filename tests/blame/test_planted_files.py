"""Test that a fault planted in the weights of a real file is found in its layer, and that a sound file has none."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cloformer_deploy.blame import Blame, Reexported, blame, propose, reexport
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import probe_images
from cloformer_deploy.errors import BundleError, RequestError
from cloformer_deploy.progress import Silent
from tests.artifacts import artifact_of
from tests.blame.planting import plant, weight_of

pytestmark = pytest.mark.integration

IMAGES = 1
CALIBRATION = "calibration.safetensors"
Files = tuple[Bundle, Artifact, Reexported]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def sound(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Files]:
    """`sound(format, precision)`: an artifact, and itself as the re-export that damaged copies are compared with."""
    known: dict[tuple[str, str], Files] = {}

    def find(format_name: str, precision: str) -> Files:
        if (format_name, precision) not in known:
            artifact = artifact_of(tiny_bundle, format_name, precision)
            calibration = tiny_bundle.root.parent / CALIBRATION if precision == "int8" else None
            folder = tmp_path_factory.mktemp("reexported")
            reexported = reexport(
                tiny_bundle, artifact, folder, calibration, Silent(), sound=tiny_bundle.path(artifact)
            )
            known[format_name, precision] = (tiny_bundle, artifact, reexported)
        return known[format_name, precision]

    return find


def look(bundle: Bundle, artifact: Artifact, reexported: Reexported) -> Blame:
    return blame(bundle, artifact, probe_images(IMAGES, bundle.manifest.preprocessing), Silent(), reexported=reexported)


@pytest.mark.parametrize(
    ("format_name", "precision", "layer"),
    [
        ("onnx", "fp32", "layers.2.blocks.0.mlp.fc1"),
        ("onnx", "int8", "layers.1.blocks.0.attn.convs.0"),
        ("tflite", "fp32", "layers.3.blocks.0.attn.proj"),
        ("tflite", "int8", "layers.2.blocks.0.mlp.fc2"),
        ("coreml", "fp32", "layers.0.blocks.0.attn.qkvs.0"),
        ("coreml", "int8", "layers.2.blocks.0.mlp.dwconv"),
    ],
)
def test_the_planted_layer_comes_first(
    sound: Callable[[str, str], Files], tmp_path: Path, format_name: str, precision: str, layer: str
) -> None:
    bundle, artifact, reexported = sound(format_name, precision)
    spoiled = Bundle(Path(shutil.copytree(bundle.root, tmp_path / "bundle")), bundle.manifest)
    plant(spoiled.path(artifact), layer, weight_of(reexported.reference, layer))
    found = look(spoiled, artifact, reexported)
    assert found.layers[0].path == layer
    assert found.layers[0].fault
    assert found.layers[0].share > 0.5
    assert found.layers[0].reexport_sqnr_db is not None
    assert found.layers[0].sqnr_db < found.layers[0].reexport_sqnr_db - 10
    assert "sha256" in found.findings[0]
    assert all(item.sqnr_db > 9 for item in found.layers[1:])


@pytest.mark.parametrize(("format_name", "precision", "low"), [("onnx", "int8", 8), ("tflite", "fp16", 55)])
def test_a_sound_file_has_no_fault(
    sound: Callable[[str, str], Files], format_name: str, precision: str, low: float
) -> None:
    found = look(*sound(format_name, precision))
    assert found.faults == ()
    assert found.findings == ()
    assert min(layer.sqnr_db for layer in found.layers) > low
    assert len(found.layers) > 70
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    # The effects of all layers add up to nearly the whole error of the outputs, so that no large one is left out.
    noise = sum(layer.output_noise for layer in found.layers)
    assert found.file.sqnr_db is not None
    assert 0.2 < noise / 10 ** (-found.file.sqnr_db / 10) < 5


def test_excluded_layers_are_found_that_reach_a_goal(
    sound: Callable[[str, str], Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloformer_deploy.blame.fix.GAIN_DB", 0.5)
    monkeypatch.setattr("cloformer_deploy.blame.fix.EXPORTS", 2)  # each takes half a minute
    bundle, artifact, reexported = sound("onnx", "int8")
    pixels = probe_images(16, bundle.manifest.preprocessing)
    found = blame(bundle, artifact, pixels, Silent(), reexported=reexported)
    fix = propose(found, reexported, pixels, tmp_path, Silent())
    assert fix.advice == "exclude_layers"
    assert fix.file is not None
    assert fix.file.sqnr_db is not None
    assert fix.goal_db is not None
    assert fix.file.sqnr_db >= fix.goal_db
    assert 1 <= len(fix.excluded_layers) <= 4
    assert len(fix.trials) <= 2
    assert fix.file in [trial.file for trial in fix.trials]


def test_an_artifact_of_another_calibration_set_needs_that_set(tiny_bundle: Bundle, tmp_path: Path) -> None:
    artifact = next(item for item in tiny_bundle.manifest.artifacts if item.precision == "int8")
    with pytest.raises(RequestError, match="was calibrated on set"):
        reexport(tiny_bundle, artifact, tmp_path, None, Silent())


def test_a_file_of_another_model_is_refused(sound: Callable[[str, str], Files], tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    bundle, artifact, reexported = sound("onnx", "fp32")
    other = Bundle(Path(shutil.copytree(bundle.root, tmp_path / "bundle")), bundle.manifest)
    path = other.path(artifact)
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = [f"{name}_renamed" for name in node.output]
        inner = {item.name for item in (*model.graph.initializer, *model.graph.input)}
        node.input[:] = [name if name in inner or not name else f"{name}_renamed" for name in node.input]
    model.graph.node.append(helper.make_node("Identity", ["logits_renamed"], ["logits"]))
    path.unlink()
    onnx.save(model, path)
    with pytest.raises(BundleError, match="of another model or version"):
        look(other, artifact, reexported)
