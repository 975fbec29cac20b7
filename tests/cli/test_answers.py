"""The JSON answers of doctor, inspect and a refused export, held against the contract."""

from pathlib import Path
from typing import Any

import pytest

from cloformer_deploy import __version__
from cloformer_deploy.weights.zoo import bundled_checkpoints
from tests.cli.command_line import CLASSES, CopyBundle, hide, invoke, parsed, read_manifest, save, small_model
from tests.cli.contract import ARTIFACT, DESCRIPTION, MANIFEST, PART, fits


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({}, {"a": int}),
        ({"a": True}, {"a": int}),
        ({"a": None}, {"a": float}),
        ([1, "x"], [int]),
        ([1, 2], ([float], None)),
        ("x", (int, None)),
    ],
)
def test_misfits_are_found(value: Any, wanted: Any) -> None:
    with pytest.raises(AssertionError):
        fits(value, wanted)


def test_doctor() -> None:
    shown = invoke("doctor", "--json")
    assert shown.code == 0
    assert shown.stderr == ""
    answer = parsed(shown.stdout)
    parts = {"extras": [PART], "runtimes": [PART], "devices": [PART]}
    fits(answer, {"schema_version": int, "tool_version": str, "python": str, "system": str, "weights": [str], **parts})
    assert answer["tool_version"] == __version__
    names = [part["name"] for part in answer["extras"]]
    assert names == ["base", "onnx", "coreml", "tflite", "coreai", "report", "ray"]
    assert answer["weights"] == list(bundled_checkpoints())
    assert all(part["detail"] for kind in parts for part in answer[kind])
    assert all(part["remedy"] for kind in parts for part in answer[kind] if not part["ready"])


def test_doctor_names_the_command_that_brings_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "onnxsim")
    extras = {part["name"]: part for part in parsed(invoke("doctor", "--json").stdout)["extras"]}
    assert not extras["onnx"]["ready"]
    assert "onnxsim" in extras["onnx"]["detail"]
    assert extras["onnx"]["remedy"] == "pip install 'cloformer-deploy[onnx]'"
    shown = invoke("doctor")
    assert shown.code == 0
    assert "pip install 'cloformer-deploy[onnx]'" in shown.said


def test_inspect_artifact(tmp_path: Path) -> None:
    own = {"cloformer_deploy.precision": "fp32", "cloformer_deploy.labels": '["a"]', "other": "kept"}
    path = save(small_model(metadata=own), tmp_path / "a.onnx")
    shown = invoke("inspect", "a.onnx", "--json")
    assert shown.code == 0
    answer = parsed(shown.stdout)
    fits(answer, {"schema_version": int, **DESCRIPTION})
    assert answer == {
        "schema_version": 1,
        "format": "onnx",
        "precision": "fp32",
        "inputs": [{"name": "image", "shape": [1, 3, 224, 224], "dtype": "float32"}],
        "outputs": [{"name": "logits", "shape": [1, CLASSES], "dtype": "float32"}],
        "operators": {"GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
        "graph": {"transposes": 0, "max_rank": 4, "parameters": 4 * CLASSES, "macs": 3 * CLASSES},
        "bytes": path.stat().st_size,
        "metadata": {"precision": "fp32", "labels": ["a"], "other": "kept"},
        "quantized": [],
        "problem": None,
    }


def test_inspect_bundle(drafted: CopyBundle) -> None:
    bundle = drafted()
    shown = invoke("inspect", "bundle", "--json")
    assert shown.code == 0
    answer = parsed(shown.stdout)
    fits(answer, MANIFEST | {"artifacts": [ARTIFACT | DESCRIPTION]})
    manifest = read_manifest(bundle)
    for listed, told in zip(manifest.pop("artifacts"), answer.pop("artifacts"), strict=True):
        assert {key: told[key] for key in listed if key != "precision"} | {"precision": "fp32"} == listed
    assert answer == manifest


def test_inspected_artifact_without_metadata_keeps_the_manifests_precision(drafted: CopyBundle) -> None:
    drafted()
    assert parsed(invoke("inspect", "bundle", "--json").stdout)["artifacts"][0]["precision"] == "fp32"


@pytest.mark.parametrize(("format_name", "package"), [("onnx", "onnxsim"), ("tflite", "litert_torch")])
def test_export_without_its_converter(
    format_name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, package)
    shown = invoke("export", "--format", format_name, "--output", "out", "--json")
    assert shown.code == 3
    error = parsed(shown.stdout)["error"]
    assert error["code"] == 3
    assert package in error["message"]
    assert error["hint"] == f"pip install 'cloformer-deploy[{format_name}]'"
    assert list(tmp_path.iterdir()) == []
