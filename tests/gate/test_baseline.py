"""Test that the baseline's file is read as it was written, or refused with an error that names it."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.errors import RequestError
from cloformer_deploy.gate.baseline import Baseline, BaselineArtifact, pack, read_baseline, write_baseline


def baseline(n: int = 20) -> Baseline:
    classes = np.random.default_rng(0).integers(0, 1000, n).astype("<i4")
    accepted = BaselineArtifact(
        format="onnx",
        precision="int8",
        target="cpu",
        sha256="a" * 64,
        bytes=1000,
        operators=10,
        sqnr_ci95_db=(30.0, 32.0),
        evidence=pack([item.tobytes() for item in classes]),
    )
    images = tuple(f"{index:016x}" for index in range(n))
    return Baseline(
        tool_version="0",
        task="classification",
        weights_sha256="b" * 64,
        images=images,
        artifacts=(accepted,),
    )


@given(st.integers(1, 8).flatmap(lambda size: st.lists(st.binary(min_size=size, max_size=size), min_size=1)))
def test_evidence_comes_back(evidence: list[bytes]) -> None:
    (item,) = baseline().artifacts
    packed = BaselineArtifact(**{**item.model_dump(), "evidence": pack(evidence)})
    images = tuple(f"{index:016x}" for index in range(len(evidence)))
    made = Baseline(tool_version="0", task="any", weights_sha256="b" * 64, images=images, artifacts=(packed,))
    read = Baseline.model_validate_json(made.model_dump_json())
    assert read == made
    assert read.evidence(read.artifacts[0]) == evidence


@given(st.integers(1, 40), st.integers(1, 200))
def test_evidence_of_another_number_of_images_is_refused(images: int, length: int) -> None:
    content = json.loads(baseline(images).model_dump_json())
    content["artifacts"][0]["evidence"] = "00" * length
    if length % images == 0:
        Baseline.model_validate(content)
    else:
        with pytest.raises(ValidationError, match=f"is not of {images} images"):
            Baseline.model_validate(content)


def test_evidence_of_no_images_is_refused() -> None:
    content = json.loads(baseline().model_dump_json())
    with pytest.raises(ValidationError, match="is not of 0 images"):
        Baseline.model_validate({**content, "images": []})
    assert Baseline.model_validate({**content, "images": [], "artifacts": []}).artifacts == ()


def test_an_artifact_is_found_by_its_kind() -> None:
    made = baseline()
    assert made.artifact(ArtifactKey("onnx", "int8", "cpu")) is made.artifacts[0]
    for key in (("tflite", "int8", "cpu"), ("onnx", "fp32", "cpu"), ("onnx", "int8", "ane")):
        assert made.artifact(ArtifactKey(*key)) is None


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text("old")
    write_baseline(path, baseline())
    assert read_baseline(path) == baseline()
    assert [item.name for item in tmp_path.iterdir()] == ["baseline.json"]


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.99])
def test_a_truncated_one_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "baseline.json"
    content = baseline().model_dump_json()
    path.write_text(content[: int(share * len(content))])
    with pytest.raises(RequestError, match="damaged"):
        read_baseline(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("evidence", ""),
        ("evidence", "00"),
        ("evidence", "zz"),
        ("evidence", "0"),
        ("bytes", 0),
        ("sqnr_ci95_db", [float("nan"), 1.0]),
        ("sqnr_ci95_db", [1.0]),
        ("surprise", 1),
    ],
)
def test_invalid_fields_are_refused(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "baseline.json"
    content = json.loads(baseline().model_dump_json())
    content["artifacts"][0][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(RequestError, match="damaged"):
        read_baseline(path)


@given(st.binary(max_size=200))
def test_other_content_is_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "baseline.json"
        path.write_bytes(content)
        with pytest.raises(RequestError, match=r"baseline\.json is damaged or of another version"):
            read_baseline(path)


@pytest.mark.parametrize(("key", "value"), [("schema_version", 1), ("task", None), ("weights_sha256", "b" * 63)])
def test_a_file_of_another_version_is_refused(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({**json.loads(baseline().model_dump_json()), key: value}))
    with pytest.raises(RequestError, match=f"of another version: {key}"):
        read_baseline(path)


def test_missing_and_unwritable_files_are_request_errors(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_baseline(tmp_path / "nowhere.json")
    with pytest.raises(RequestError, match="cannot be written"):
        write_baseline(tmp_path / "nowhere" / "baseline.json", baseline())
