"""Malformed and strange artifacts by themselves through the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from tests.cli.command_line import invoke, parsed, save, small_model
from tests.cli.refusals import Case, check, ids

pytestmark = pytest.mark.integration


def outside_weights(folder: Path) -> None:
    model = small_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../etc/passwd"), ("offset", "0"), ("length", "120")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (folder / "outside.onnx").write_bytes(model.SerializeToString())


def as_file(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def package(*, manifest: str | None = None) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / "a.mlpackage").mkdir()
        if manifest is not None:
            (folder / "a.mlpackage" / "Manifest.json").write_text(manifest)

    return make


def artifact(name: str, path: str, make: Callable[[Path], object], *told: str, fresh: bool = False) -> Case:
    return Case(name, ("inspect", path), told, make=make, fresh=fresh)


ITEMS = {"itemInfoEntries": {"a": {"path": "../../../etc/passwd"}}, "rootModelIdentifier": "a"}
ARTIFACTS = [
    artifact("missing", "no.onnx", lambda folder: None, "no.onnx"),
    artifact("suffix-unknown", "model.bin", as_file("model.bin", b"x"), "model.bin", ".onnx"),
    artifact("onnx-text", "a.onnx", as_file("a.onnx", b"text"), "a.onnx"),
    artifact("onnx-empty", "a.onnx", as_file("a.onnx", b""), "a.onnx"),
    artifact(
        "onnx-truncated", "a.onnx", as_file("a.onnx", small_model().SerializeToString()[:-9]), "a.onnx", fresh=True
    ),
    artifact("onnx-weights-outside", "outside.onnx", outside_weights, "outside.onnx", "weight", fresh=True),
    artifact("onnx-a-folder", "a.onnx", lambda folder: (folder / "a.onnx").mkdir(), "a.onnx"),
    artifact("tflite-text", "a.tflite", as_file("a.tflite", b"this is text"), "a.tflite", "TFLite"),
    artifact("tflite-empty", "a.tflite", as_file("a.tflite", b""), "a.tflite"),
    artifact("tflite-random", "a.tflite", as_file("a.tflite", b"\x20\0\0\0TFL3" + b"\xff" * 99), "a.tflite"),
    artifact("mlpackage-missing", "a.mlpackage", lambda folder: None, "a.mlpackage"),
    artifact("mlpackage-a-file", "a.mlpackage", as_file("a.mlpackage", b"x"), "a.mlpackage"),
    artifact("mlpackage-empty", "a.mlpackage", package(), "Manifest.json"),
    artifact("mlpackage-manifest-damaged", "a.mlpackage", package(manifest="{"), "Manifest.json"),
    artifact("mlpackage-model-outside", "a.mlpackage", package(manifest=json.dumps(ITEMS)), "../../../etc/passwd"),
]


@pytest.mark.parametrize("case", ids(ARTIFACTS))
def test_artifacts(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("manifest", [None, "{", json.dumps(ITEMS)], ids=["empty", "damaged", "model-outside"])
def test_package_is_named(manifest: str | None, tmp_path: Path) -> None:
    """A bundle has several packages: the message must say which one is damaged."""
    package(manifest=manifest)(tmp_path)
    assert "a.mlpackage" in invoke("inspect", "a.mlpackage").stderr


def without_a_tensor_type() -> Any:
    model = small_model()
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("image", TensorProto.FLOAT, None))
    return model


def with_operator(name: str) -> Any:
    model = small_model()
    model.graph.node[0].op_type = name
    return model


def with_axis(name: str) -> Any:
    model = small_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = name
    return model


STRANGE: dict[str, Callable[[], Any]] = {
    "labels-nan": lambda: small_model(metadata={"cloformer_deploy.labels": "[NaN]"}),
    "labels-nested-deep": lambda: small_model(metadata={"cloformer_deploy.labels": "[" * 10**5}),
    "metadata-nested": lambda: small_model(
        metadata={"cloformer_deploy.preprocessing": '{"a": ' * 300 + "1" + "}" * 300}
    ),
    "labels-no-json": lambda: small_model(metadata={"cloformer_deploy.labels": "[a"}),
    "metadata-markup": lambda: small_model(metadata={"[/red]": "[/]"}),
    "precision-markup": lambda: small_model(metadata={"cloformer_deploy.precision": "[/]"}),
    "operator-markup": lambda: with_operator("[/]"),
    "axis-markup": lambda: with_axis("[/]"),
    "input-no-tensor": without_a_tensor_type,
}
"""ONNX files that can be read, with texts in them that are hard to show."""


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("strange", STRANGE)
def test_strange_but_readable(strange: str, form: str, tmp_path: Path) -> None:
    save(STRANGE[strange](), tmp_path / "a.onnx")
    shown = invoke("inspect", "a.onnx", *(["--json"] if form == "json" else []))
    assert shown.code == 0, shown.stderr
    if form == "json":
        assert parsed(shown.stdout)["format"] == "onnx"
