"""This package's interpreter of Core ML is held to Apple's of Core AI; faults planted in either are found."""

import shutil
from pathlib import Path

import pytest

from cloformer_deploy.blame import CrossCheck, blame, cross_check, reexport
from cloformer_deploy.bundle import Bundle, digest
from cloformer_deploy.data import probe_images
from cloformer_deploy.gate import DriftConfig, gate
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation.bundle_work import reference_model
from tests.artifacts import artifact_of
from tests.blame.planting import plant, weight_of
from tests.cli.command_line import invoke, parsed

pytestmark = pytest.mark.integration

FP16_APART_DB = 6.0
"""Most error beyond ours, dB, that Apple's interpreter may add in float16, but for products."""
LAYER = "layers.2.blocks.0.mlp.fc1"
FAULTS = (
    ("fp32", "patch_embed.conv4.conv.0"),
    ("fp32", "layers.0.blocks.0.attn.qkvs.0"),
    ("fp16", "layers.1.blocks.0.attn.proj"),
    ("int8", "layers.2.blocks.0.mlp.fc2"),
    ("w8", "layers.3.blocks.0.mlp.fc1"),
)


def spoiled(bundle: Bundle, format_name: str, precision: str, layer: str, root: Path, *, alone: bool) -> Bundle:
    """Return a copy of a bundle with a layer of one file spoiled, listed with its true checksum."""
    artifact = artifact_of(bundle, format_name, precision)
    shutil.copytree(bundle.root, root)
    plant(root / artifact.path, layer, weight_of(reference_model(bundle), layer))
    listed = artifact.model_copy(update={"sha256": digest(root / artifact.path)})
    others = () if alone else tuple(item for item in bundle.manifest.artifacts if item.key != artifact.key)
    manifest = bundle.manifest.model_copy(update={"artifacts": (listed, *others)})
    (root / "manifest.json").write_text(manifest.model_dump_json())
    return Bundle(root, manifest)


def compared(bundle: Bundle) -> dict[str, CrossCheck]:
    pixels = probe_images(1, bundle.manifest.preprocessing)
    return {item.precision: item for item in cross_check(bundle, pixels, Silent())}


def test_our_rounding_is_apple_s(small_bundle: Bundle) -> None:
    """In float16 both round each operation once: 65 to 80 dB. In float32 only the order of sums differs."""
    found = compared(small_bundle)
    assert found.keys() == {"fp32", "fp16"}
    assert all(item.faults == () and item.nodes > 150 for item in found.values())
    assert all(row.coreml_db is not None and row.coreai_db is not None for item in found.values() for row in item.worst)
    assert all(min(row.coreml_db or 0, row.coreai_db or 0) >= 115 for row in found["fp32"].worst)
    for row in found["fp16"].worst:
        if row.kind in ("relu", "concat"):  # they move numbers
            continue
        assert row.coreml_db is not None
        assert row.coreai_db is not None
        assert 60 < row.coreml_db < 85, row
        if row.kind not in ("matmul", "linear"):
            assert abs(row.coreml_db - row.coreai_db) < FP16_APART_DB, row
        else:
            assert row.coreai_db < row.coreml_db, row


def test_a_fault_of_one_of_both_is_found_and_named(small_bundle: Bundle, tmp_path: Path) -> None:
    bundle = spoiled(small_bundle, "coreai", "fp32", LAYER, tmp_path / "b", alone=False)
    (fault,) = compared(bundle)["fp32"].faults
    assert fault.layer == LAYER
    assert fault.coreai_db is None
    assert fault.coreml_db is not None
    assert fault.coreml_db > 115
    shown = invoke("validate", str(bundle.root), "--limit", "1", "--cross-check", "--json")
    assert shown.code == 1
    (said,) = (item for item in parsed(shown.stdout)["cross_check"] if item["precision"] == "fp32")
    assert [row["layer"] for row in said["faults"]] == [LAYER]


@pytest.mark.parametrize(("precision", "layer"), FAULTS)
def test_a_planted_layer_fails_the_gate_and_is_blamed_first(
    small_bundle: Bundle, tmp_path: Path, precision: str, layer: str
) -> None:
    bundle = spoiled(small_bundle, "coreai", precision, layer, tmp_path / "b", alone=True)
    (cell,) = gate(bundle, None, 4, DriftConfig(), None, None, {}, Silent()).cells
    assert cell.status == "failed"
    artifact = artifact_of(small_bundle, "coreai", precision)
    calibration = small_bundle.root.parent / "calibration.safetensors" if precision == "int8" else None
    sound = small_bundle.path(artifact)
    reexported = reexport(small_bundle, artifact, tmp_path, calibration, Silent(), sound=sound)
    pixels = probe_images(1, bundle.manifest.preprocessing)
    found = blame(bundle, bundle.manifest.artifacts[0], pixels, Silent(), reexported=reexported)
    assert found.layers[0].path == layer
    assert found.layers[0].fault
