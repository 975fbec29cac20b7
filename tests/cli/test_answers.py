"""The JSON answers, key by key against the contract; validate on labelled and unlabelled pictures and on bad files."""

import json
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from cloformer_deploy import __version__
from cloformer_deploy.checkpoints import build_model, load_checkpoint
from cloformer_deploy.model_zoo import DEFAULT, bundled_checkpoints, resolve_weights
from cloformer_deploy.packages import installed_version
from tests.cli.command_line import (
    CLASSES,
    FAVOURITE,
    CopyBundle,
    edit_manifest,
    invoke,
    parsed,
    read_manifest,
    relist,
    save,
    small_model,
    spawn,
)

PICTURES = 12

TENSOR = {"name": str, "shape": [(int, str)], "dtype": str}
ARTIFACT = {
    "path": str,
    "format": str,
    "precision": str,
    "target": str,
    "sha256": str,
    "bytes": int,
    "input": {"kind": str, "batch": (int, str)},
    "created_with": {},
    "calibration": (None,),
}
DESCRIPTION = {
    "format": str,
    "precision": (str, None),
    "inputs": [TENSOR],
    "outputs": [TENSOR],
    "operators": {},
    "bytes": int,
    "metadata": {},
}
MANIFEST = {
    "schema_version": int,
    "tool_version": str,
    "variant": str,
    "num_classes": int,
    "labels": [str],
    "weights": {"name": str, "sha256": str},
    "input": {"height": int, "width": int, "mean": [float], "std": [float], "resize": {}},
    "artifacts": [ARTIFACT],
}
VERDICT = {
    "path": str,
    "format": str,
    "precision": str,
    "target": str,
    "runtime": str,
    "status": str,
    "n": int,
    "top1_agreement": (float, None),
    "top1": (float, None),
    "top1_drop_pp": (float, None),
    "top1_drop_ci95_pp": ([float], None),
    "max_abs_diff": (float, None),
    "sqnr_db": (float, None),
    "cosine_min": (float, None),
    "thresholds": {},
    "failures": [str],
}
VALIDATION = {
    "schema_version": int,
    "reference": {"runtime": str, "n": int, "top1": (float, None)},
    "artifacts": [VERDICT],
}
PART = {"name": str, "ready": bool, "detail": str, "remedy": str}


def fits(value: Any, wanted: Any, place: str = "answer") -> None:
    """Check keys and types: a type, None, a tuple of alternatives, a list of one kind, a dictionary by key."""
    if isinstance(wanted, dict):
        assert isinstance(value, dict), place
        assert set(wanted) <= set(value), f"{place} lacks {set(wanted) - set(value)}"
        for key, inner in wanted.items():
            fits(value[key], inner, f"{place}.{key}")
    elif isinstance(wanted, list):
        assert isinstance(value, list), place
        for index, item in enumerate(value):
            fits(item, wanted[0], f"{place}.{index}")
    elif isinstance(wanted, tuple):
        simple = [type(None) if one is None else list if isinstance(one, list) else one for one in wanted]
        assert type(value) in simple, f"{place} is {value!r}"
        for one in wanted:
            if isinstance(one, list) and isinstance(value, list):
                fits(value, one, place)
    else:
        assert type(value) is wanted, f"{place} is {value!r}"


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


# doctor and inspect.


def test_doctor() -> None:
    shown = invoke("doctor", "--json")
    assert shown.code == 0
    assert shown.stderr == ""
    answer = parsed(shown.stdout)
    parts = {"extras": [PART], "runtimes": [PART], "devices": [PART]}
    fits(answer, {"schema_version": int, "tool_version": str, "python": str, "system": str, "weights": [str], **parts})
    assert answer["tool_version"] == __version__
    assert [part["name"] for part in answer["extras"]] == ["base", "onnx", "coreml", "tflite"]
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
        "bytes": path.stat().st_size,
        "metadata": {"precision": "fp32", "labels": ["a"], "other": "kept"},
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


# validate.


@pytest.fixture(scope="session")
def pixels() -> NDArray[np.uint8]:
    """Seeded noise, coarse and bright enough for the classes to differ."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (PICTURES, 4, 4, 3), np.uint8)
    noise = rng.integers(0, 40, (PICTURES, 224, 224, 3), np.uint8)
    made: NDArray[np.uint8] = np.minimum(coarse.repeat(56, axis=1).repeat(56, axis=2), 215) + noise
    return made


@pytest.fixture(scope="session")
def predicted(pixels: NDArray[np.uint8]) -> list[int]:
    """The classes PyTorch sees in the noise, computed here without the code under test's preprocessing."""
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float() / 255
    mean, std = (torch.tensor(value).reshape(3, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        logits = build_model(load_checkpoint(resolve_weights()))((images - mean) / std)
    return [int(index) for index in logits.argmax(1)]


def spread(predicted: list[int]) -> list[int]:
    """A class for each picture: every class has one, and at least two pictures are in the class PyTorch sees."""
    labels = [*range(CLASSES), predicted[-2], predicted[-1]]
    assert len(labels) == len(predicted) == PICTURES
    return labels


def write(folder: Path, pixels: NDArray[np.uint8], folders: Iterable[str]) -> None:
    for index, (picture, name) in enumerate(zip(pixels, folders, strict=True)):
        path = folder / name / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def validated(*args: str, code: int) -> Any:
    shown = invoke("validate", "bundle", "--json", *args)
    assert shown.code == code, shown.said
    answer = parsed(shown.stdout)
    fits(answer, VALIDATION)
    assert answer["schema_version"] == 1
    assert answer["reference"]["runtime"] == "pytorch"
    return answer


def expected_top1(predicted: list[int]) -> float:
    return sum(map(int.__eq__, predicted, spread(predicted))) / PICTURES


@pytest.mark.parametrize("naming", ["labels", "sorted"])
def test_labelled_pictures(
    naming: str,
    drafted: CopyBundle,
    pixels: NDArray[np.uint8],
    predicted: list[int],
    tmp_path: Path,
) -> None:
    known = read_manifest(drafted())["labels"]
    names = known if naming == "labels" else [f"{index:02}" for index in range(CLASSES)]
    write(tmp_path / "data", pixels, (names[label] for label in spread(predicted)))
    answer = validated("--data", "data", code=1)
    assert answer["reference"]["n"] == PICTURES
    assert answer["reference"]["top1"] == expected_top1(predicted) >= 2 / PICTURES
    verdict = answer["artifacts"][0]
    assert verdict["status"] == "failed"
    assert verdict["n"] == PICTURES
    assert verdict["top1"] == spread(predicted).count(FAVOURITE) / PICTURES
    assert verdict["top1_agreement"] == predicted.count(FAVOURITE) / PICTURES
    assert verdict["top1_drop_pp"] == pytest.approx(100 * (expected_top1(predicted) - verdict["top1"]))
    low, high = verdict["top1_drop_ci95_pp"]
    assert -100 <= low <= verdict["top1_drop_pp"] <= high <= 100


def test_unlabelled_pictures(drafted: CopyBundle, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    drafted()
    write(tmp_path / "data", pixels[:3], [""] * 3)
    answer = validated("--data", "data", code=1)
    assert answer["reference"] == {"runtime": "pytorch", "n": 3, "top1": None}
    verdict = answer["artifacts"][0]
    assert [verdict[key] for key in ("top1", "top1_drop_pp", "top1_drop_ci95_pp")] == [None] * 3
    assert verdict["n"] == 3
    assert verdict["max_abs_diff"] > 0.1


@pytest.mark.parametrize(("limit", "n"), [(1, 1), (5, 5), (PICTURES, PICTURES), (99, PICTURES)])
def test_limit(
    limit: int,
    n: int,
    drafted: CopyBundle,
    pixels: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    drafted()
    write(tmp_path / "data", pixels[:, ::7, ::5], (f"{index % CLASSES:02}" for index in range(PICTURES)))
    answer = validated("--data", "data", "--limit", str(limit), code=1)
    assert answer["reference"]["n"] == answer["artifacts"][0]["n"] == n


def test_failures_are_told_to_people_too(drafted: CopyBundle) -> None:
    drafted()
    shown = invoke("validate", "bundle", "--limit", "1")
    assert shown.code == 1
    assert "failed" in shown.stdout
    assert (
        f"cloformer_xxs-fp32.onnx: {validated('--limit', '1', code=1)['artifacts'][0]['failures'][0]}" in shown.stdout
    )
    assert "Error" not in shown.stderr


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_artifact_that_gives_no_numbers(value: float, drafted: CopyBundle) -> None:
    bundle = drafted()
    save(small_model(weight=value), bundle / "cloformer_xxs-fp32.onnx")
    relist(bundle)
    verdict = validated("--limit", "2", code=1)["artifacts"][0]
    assert verdict["status"] == "failed"
    assert verdict["n"] == 2
    assert verdict["top1_agreement"] == 0
    assert [verdict[key] for key in ("max_abs_diff", "sqnr_db", "cosine_min")] == [None] * 3
    assert any("NaN" in failure for failure in verdict["failures"])
    assert invoke("validate", "bundle", "--limit", "2").code == 1


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make packages look as if they were not installed."""

    def find(name: str) -> ModuleSpec | None:
        return None if name in names else find_spec(name)

    def version(name: str) -> str | None:
        return None if name in names else installed_version(name)

    monkeypatch.setattr("cloformer_deploy.packages.find_spec", find)
    monkeypatch.setattr("cloformer_deploy.environment.installed_version", version)


def test_artifact_whose_runtime_is_missing(drafted: CopyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    drafted()
    hide(monkeypatch, "onnxruntime")
    verdict = validated("--limit", "1", code=3)["artifacts"][0]
    assert verdict["status"] == "not_executed"
    assert verdict["n"] == 0
    assert verdict["top1_agreement"] is None
    assert "onnxruntime" in verdict["failures"][0]
    shown = invoke("validate", "bundle", "--limit", "1")
    assert shown.code == 3
    assert "Next: pip install 'cloformer-deploy[onnx]'" in shown.said


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


# The real thing.


@pytest.mark.integration
def test_export(exported_bundle: Path) -> None:
    answer = parsed((exported_bundle.parent / "answer.json").read_text())
    check = {"precision": str, "runtime": str, "n": int, "max_abs_diff": float, "sqnr_db": float}
    item = ARTIFACT | {"check": check}
    fits(answer, {"schema_version": int, "bundle": str, "variant": str, "artifacts": [item]})
    assert answer["bundle"] == "bundle"
    assert answer["variant"] == "xxs"
    assert [item["path"] for item in answer["artifacts"]] == ["cloformer_xxs-fp16.onnx", "cloformer_xxs-fp32.onnx"]
    for item in answer["artifacts"]:
        assert item["check"]["precision"] == item["precision"]
        assert item["check"]["sqnr_db"] > 40
        del item["check"]
    assert answer["artifacts"] == read_manifest(exported_bundle)["artifacts"]
    assert sorted(path.name for path in exported_bundle.iterdir()) == [
        "cloformer_xxs-fp16.onnx",
        "cloformer_xxs-fp32.onnx",
        "manifest.json",
        read_manifest(exported_bundle)["weights"]["file"],
    ]


@pytest.mark.integration
def test_inspect_exported(exported_bundle: Path) -> None:
    answer = parsed(invoke("inspect", exported_bundle, "--json").stdout)
    fits(answer, MANIFEST | {"artifacts": [ARTIFACT | DESCRIPTION]})
    assert answer["weights"]["name"] == DEFAULT
    for item in answer["artifacts"]:
        assert item["inputs"] == [{"name": "image", "shape": [1, 3, 224, 224], "dtype": "float32"}]
        assert item["outputs"] == [{"name": "logits", "shape": [1, CLASSES], "dtype": "float32"}]
        metadata = item["metadata"]
        assert metadata["labels"] == answer["labels"]
        assert metadata["preprocessing"] == answer["input"]
        assert metadata["weights_sha256"] == answer["weights"]["sha256"]
        assert metadata["variant"] == answer["variant"]
        assert metadata["tool_version"] == answer["tool_version"]
        assert metadata["precision"] == item["precision"]


@pytest.mark.integration
def test_validate_exported(
    exported: CopyBundle, pixels: NDArray[np.uint8], predicted: list[int], tmp_path: Path
) -> None:
    names = read_manifest(exported())["labels"]
    write(tmp_path / "data", pixels, (names[label] for label in spread(predicted)))
    shown = spawn("validate", "bundle", "--data", "data", "--json", cwd=tmp_path)
    assert shown.code == 0, shown.stderr
    answer = parsed(shown.stdout)
    fits(answer, VALIDATION)
    assert answer["reference"] == {"runtime": "pytorch", "n": PICTURES, "top1": expected_top1(predicted)}
    assert [item["precision"] for item in answer["artifacts"]] == ["fp16", "fp32"]
    for item in answer["artifacts"]:
        assert item["status"] == "passed"
        assert item["failures"] == []
        assert item["top1"] == answer["reference"]["top1"]
        assert item["top1_drop_pp"] == 0


@pytest.mark.integration
def test_validate_tampered(exported: CopyBundle) -> None:
    """One zeroed weight in one file: it fails, the other passes."""
    bundle = exported()
    path = bundle / "cloformer_xxs-fp32.onnx"
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
    assert manifest["weights"]["sha256"] == load_checkpoint(resolve_weights()).sha256


def test_bundle_without_artifacts_is_no_success(drafted: CopyBundle) -> None:
    """What an interrupted re-export may leave behind: nothing was checked, so nothing passed."""
    edit_manifest(drafted(), lambda manifest: manifest.update(artifacts=[]))
    assert invoke("validate", "bundle", "--limit", "1").code != 0
