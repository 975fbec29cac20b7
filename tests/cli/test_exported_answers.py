"""The answers on a real export, held against the contract."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.cli.command_line import CLASSES, FP16, FP32, CopyBundle, invoke, parsed, read_manifest, relist, save, spawn
from tests.cli.contract import ARTIFACT, DESCRIPTION, MANIFEST, VALIDATION, fits, validated
from tests.cli.noise import IMAGES, classes_seen, expected_top1, spread, write
from tests.tiny import TRAINED, TRAINED_SIDE


@pytest.mark.integration
def test_export(exported_bundle: Path) -> None:
    answer = parsed((exported_bundle.parent / "answer.json").read_text())
    check = {"precision": str, "runtime": str, "n": int, "max_abs_diff": float, "sqnr_db": float}
    item = ARTIFACT | {"check": check}
    fits(answer, {"schema_version": int, "bundle": str, "task": str, "variant": str, "artifacts": [item]})
    assert answer["task"] == "classification"
    assert answer["bundle"] == "bundle"
    assert answer["variant"] == "custom"
    assert [item["path"] for item in answer["artifacts"]] == [FP16, FP32]
    for item in answer["artifacts"]:
        assert item["check"]["precision"] == item["precision"]
        assert item["check"]["sqnr_db"] > 40
        del item["check"]
    assert answer["artifacts"] == read_manifest(exported_bundle)["artifacts"]
    assert sorted(path.name for path in exported_bundle.iterdir()) == [
        FP16,
        FP32,
        "manifest.json",
        read_manifest(exported_bundle)["weights"]["file"],
    ]


@pytest.mark.integration
def test_inspect_exported(exported_bundle: Path) -> None:
    answer = parsed(invoke("inspect", exported_bundle, "--json").stdout)
    fits(answer, MANIFEST | {"artifacts": [ARTIFACT | DESCRIPTION]})
    assert answer["weights"]["name"] == TRAINED.stem
    for item in answer["artifacts"]:
        assert item["inputs"] == [{"name": "image", "shape": [1, 3, TRAINED_SIDE, TRAINED_SIDE], "dtype": "float32"}]
        assert item["outputs"] == [{"name": "logits", "shape": [1, CLASSES], "dtype": "float32"}]
        metadata = item["metadata"]
        assert metadata["labels"] == answer["labels"]
        assert metadata["preprocessing"] == answer["preprocessing"]
        assert metadata["weights_sha256"] == answer["weights"]["sha256"]
        assert metadata["variant"] == answer["variant"]
        assert metadata["task"] == answer["task"]
        assert metadata["tool_version"] == answer["tool_version"]
        assert metadata["precision"] == item["precision"]


@pytest.mark.integration
def test_validate_exported(exported: CopyBundle, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    names = read_manifest(exported())["labels"]
    pixels = pixels[:, :TRAINED_SIDE, :TRAINED_SIDE]
    predicted = classes_seen(TRAINED, pixels)
    write(tmp_path / "data", pixels, (names[label] for label in spread(predicted)))
    shown = spawn("validate", "bundle", "--data", "data", "--json", cwd=tmp_path)
    assert shown.code == 0, shown.stderr
    answer = parsed(shown.stdout)
    fits(answer, VALIDATION)
    assert answer["reference"] == {"runtime": "pytorch", "n": IMAGES, "score": expected_top1(predicted)}
    assert [item["precision"] for item in answer["artifacts"]] == ["fp16", "fp32"]
    for item in answer["artifacts"]:
        assert item["status"] == "passed"
        assert item["failures"] == []
        assert item["score"] == answer["reference"]["score"]
        assert item["drop_pp"] == 0


@pytest.mark.integration
def test_validate_tampered(exported: CopyBundle) -> None:
    """One zeroed weight in one file: it fails, the other passes."""
    bundle = exported()
    path = bundle / FP32
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    values = numpy_helper.to_array(tensor)
    assert values.any()
    tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(values), tensor.name))
    save(model, path)
    assert "sha256" in invoke("validate", "bundle").stderr
    relist(bundle)
    answer = validated("--limit", "4", code=1)
    verdicts = {item["precision"]: item for item in answer["artifacts"]}
    assert verdicts["fp32"]["status"] == "failed"
    assert verdicts["fp32"]["failures"]
    assert verdicts["fp32"]["max_abs_diff"] > 1e-3
    assert verdicts["fp16"]["status"] == "passed"


@pytest.mark.integration
def test_manifest_of_an_export_is_the_contracts(exported_bundle: Path) -> None:
    manifest = json.loads((exported_bundle / "manifest.json").read_text())
    fits(manifest, MANIFEST)
    assert manifest["weights"]["sha256"] == hashlib.sha256(TRAINED.read_bytes()).hexdigest()
    assert manifest["assumed"] == []
