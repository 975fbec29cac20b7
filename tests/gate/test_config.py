"""Test `drift.toml`: limits come from the defaults, the file and its rules; errors name the place of a mistake."""

from pathlib import Path

import pytest

from cloformer_deploy.backends.registry import all_precisions
from cloformer_deploy.bundle.manifest import Artifact, Interface, OutputTensor
from cloformer_deploy.errors import RequestError
from cloformer_deploy.gate.config import DriftConfig, read_config
from cloformer_deploy.tasks import TASKS

TASK = TASKS["classification"]


def artifact(format_name: str = "onnx", precision: str = "int8", target: str = "cpu") -> Artifact:
    return Artifact(
        path="file.onnx",
        format=format_name,
        precision=precision,
        target=target,
        sha256="0" * 64,
        bytes=1,
        input=Interface(kind="tensor", batch=1),
        outputs=(OutputTensor(name="logits", shape=(1, 1000), dtype="float32"),),
        options={},
        created_with={},
    )


def written(folder: Path, text: str) -> Path:
    path = folder / "limits.toml"
    path.write_text(text)
    return path


def test_every_precision_has_limits() -> None:
    for precision in all_precisions():
        limits = DriftConfig().limits_of(artifact(precision=precision), TASK)
        assert limits.agreement == TASK.thresholds(precision)["agreement"]
        assert limits.not_executed == "fail"


def test_later_rules_override_earlier_ones_for_the_artifacts_they_name(tmp_path: Path) -> None:
    config = read_config(
        written(
            tmp_path,
            """
            undecided = "fail"
            [defaults]
            drop_pp = 2
            regression_db = 1.5
            [[limits]]
            precision = "int8"
            sqnr_db = 22
            [[limits]]
            format = "coreml"
            precision = "int8"
            sqnr_db = 25.5
            not_executed = "allow"
            """,
        )
    )
    assert (config.undecided, config.source) == ("fail", str(tmp_path / "limits.toml"))
    found = {
        (name, precision): config.limits_of(artifact(name, precision), TASK)
        for name in ("onnx", "coreml")
        for precision in ("fp32", "int8")
    }
    assert {key: limits.sqnr_db for key, limits in found.items()} == {
        ("onnx", "fp32"): 90,
        ("coreml", "fp32"): 90,
        ("onnx", "int8"): 22,
        ("coreml", "int8"): 25.5,
    }
    assert {limits.drop_pp for limits in found.values()} == {2.0}
    assert [key for key, limits in found.items() if limits.not_executed == "allow"] == [("coreml", "int8")]


def test_without_a_file_the_defaults_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_config(None) == DriftConfig()
    Path("drift.toml").write_text("[defaults]\ngrowth = 0.5\n")
    assert read_config(None).limits_of(artifact(), TASK).growth == 0.5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("undecided = maybe", "no TOML"),
        ('undecided = "maybe"', "undecided: Input should be 'pass' or 'fail'"),
        ("[defaults]\ndrop = 1", "defaults.drop: Extra inputs are not permitted"),
        ("[defaults]\nagreement = 99", "defaults.agreement: Input should be less than or equal to 1"),
        ("[defaults]\nsqnr_db = nan", "defaults.sqnr_db: Input should be a finite number"),
        ('[[limits]]\nformat = "onnxx"', "limits.0.format: Value error, 'onnxx' is no format; choose from onnx"),
        ("limits = 3", "limits"),
        ("[limits]\nx = 1", "limits"),
    ],
)
def test_an_error_names_the_place_of_the_mistake(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_config(written(tmp_path, text))
    assert told in caught.value.message
    assert "limits.toml" in caught.value.message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_config(tmp_path / "nowhere.toml")
