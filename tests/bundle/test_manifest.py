"""The manifest: what it says, what it survives, and that a damaged one is a BundleError and nothing else."""

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import (
    Artifact,
    Calibration,
    Interface,
    Manifest,
    OutputTensor,
    Weights,
    artifact_name,
)
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.errors import BundleError
from cloformer_deploy.networks.cloformer import VARIANTS


def artifact(path: str) -> Artifact:
    return Artifact(
        path=path,
        format="onnx",
        precision="fp32",
        target="cpu",
        sha256="a" * 64,
        bytes=5,
        input=Interface(kind="tensor", batch="dynamic"),
        outputs=(OutputTensor(name="logits", shape=("batch", 3), dtype="float32"),),
        options={"opset": 20},
        created_with={"onnx": "1.23"},
        calibration=Calibration(sha256="b" * 64, n=128, seed=0),
        excluded_layers=("layers.2.blocks.5",),
    )


FULL = Manifest(
    schema_version=2,
    tool_version="0.1.0",
    task="classification",
    network="cloformer",
    variant="xxs",
    architecture=VARIANTS["xxs"].of_classes(3).as_json(),
    assumed=("the input is normalized as ImageNet's",),
    labels=("tench", "chain saw", "früh\u2028\N{DOG FACE}"),
    weights=Weights(name="w", sha256="c" * 64, file="weights-cccc.safetensors", file_sha256="d" * 64),
    preprocessing=Preprocessing.published(224, 256),
    artifacts=(artifact("cloformer_xxs-fp32.onnx"), artifact("another.onnx")),
)
CONTENT = FULL.model_dump_json(indent=2).encode()
FIELDS: dict[str, Any] = json.loads(CONTENT)


def opened(folder: Path, content: bytes) -> Manifest:
    (folder / "manifest.json").write_bytes(content)
    return Bundle.open(folder).manifest


def refusal(folder: Path, content: bytes) -> str:
    """The message; every refusal names the file, has a hint and fits on a screen."""
    with pytest.raises(BundleError) as caught:
        opened(folder, content)
    assert str(folder / "manifest.json") in caught.value.message
    assert "--overwrite" in caught.value.hint
    assert len(caught.value.message) < 500 + len(str(folder))
    return caught.value.message


def changed(place: str, value: Any) -> bytes:
    """The manifest with one field set; `artifacts.0.path` walks into lists and objects."""
    fields = copy.deepcopy(FIELDS)
    *way, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    inner: Any = fields
    for part in way:
        inner = inner[part]
    inner[last] = value
    return json.dumps(fields).encode()


def test_a_manifest_survives_json(tmp_path: Path) -> None:
    assert opened(tmp_path, CONTENT) == FULL
    assert opened(tmp_path, json.dumps(FIELDS, ensure_ascii=True).encode()) == FULL


def test_the_fields_are_those_of_the_contract() -> None:
    assert set(FIELDS) == {
        "schema_version", "tool_version", "task", "scores", "network", "variant", "architecture", "assumed", "labels",
        "weights", "preprocessing", "artifacts", "calibrations",
    }  # fmt: skip
    assert FIELDS["schema_version"] == 2
    assert {"name", "sha256"} <= set(FIELDS["weights"])
    assert {"height", "width", "mean", "std", "resize"} <= set(FIELDS["preprocessing"])
    assert {
        "in_chans", "num_classes", "embed_dims", "depths", "num_heads", "group_splits", "kernel_sizes", "window_sizes",
        "mlp_kernel_sizes", "mlp_ratios", "qkv_bias",
    } == set(FIELDS["architecture"])  # fmt: skip
    assert set(FIELDS["artifacts"][0]) == {
        "path", "format", "precision", "target", "sha256", "bytes", "input", "outputs", "options",
        "created_with", "calibration", "excluded_layers", "tuning", "npus",
    }  # fmt: skip
    assert FIELDS["artifacts"][0]["outputs"] == [{"name": "logits", "shape": ["batch", 3], "dtype": "float32"}]
    assert FIELDS["artifacts"][0]["options"] == {"opset": 20}
    assert FIELDS["artifacts"][0]["calibration"] == {"sha256": "b" * 64, "n": 128, "seed": 0}


def test_labels_and_calibration_may_be_null(tmp_path: Path) -> None:
    assert opened(tmp_path, changed("labels", None)).labels is None
    assert opened(tmp_path, changed("artifacts.0.calibration", None)).artifacts[0].calibration is None


def test_a_manifest_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        FULL.variant = "s"


# Damaged


def test_a_truncated_manifest_is_refused(tmp_path: Path) -> None:
    """Cut within every line and at every one of the last bytes."""
    for cut in {*range(0, len(CONTENT), 11), *range(len(CONTENT) - 40, len(CONTENT))}:
        refusal(tmp_path, CONTENT[:cut])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(CONTENT) - 1), st.binary(min_size=0, max_size=3), st.integers(0, 3))
def test_changed_bytes_are_refused_or_make_another_manifest(
    tmp_path: Path, place: int, put: bytes, removed: int
) -> None:
    try:
        found = opened(tmp_path, CONTENT[:place] + put + CONTENT[place + removed :])
    except BundleError:
        return
    assert Manifest.model_validate_json(found.model_dump_json()) == found


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(fields: Any, way: str = "") -> list[str]:
    """The way to each field of the manifest, however deep."""
    items = fields.items() if isinstance(fields, dict) else enumerate(fields) if isinstance(fields, list) else ()
    return [way] * bool(way) + [
        deeper for key, value in items for deeper in places(value, f"{way}.{key}" if way else str(key))
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(places(FIELDS)), json_values)
def test_any_value_at_any_place_is_refused_or_used(tmp_path: Path, place: str, value: Any) -> None:
    with contextlib.suppress(BundleError):
        opened(tmp_path, changed(place, value))


WRONG_TYPES: dict[str, list[Any]] = {
    "schema_version": ["1.x", None, []],
    "tool_version": [1, None],
    "task": [1, None, ["classification"]],
    "network": [1, None],
    "architecture": [None, "xxs", [["num_classes", 3]]],
    "architecture.depths": [None, {"0": 2}],
    "assumed": ["the task", None, [1]],
    "labels": ["abc", {"0": "a"}, [1, 2, 3], ["a", "b", None]],
    "weights": [None, "w", []],
    "weights.sha256": ["", "A" * 64, "a" * 63, "a" * 64 + "\n", 7],
    "preprocessing.height": ["high", 100, 0, -224, 4096],
    "preprocessing.mean": ["0.5", [0.5, 0.5, "x"]],
    "scores": [None, "relu", 1],
    "artifacts": [None, {}, "a.onnx"],
    "artifacts.0": [None, [], "a.onnx"],
    "artifacts.0.bytes": ["many", 0.5],
    "artifacts.0.input.batch": ["some", 0, -1, None],
    "artifacts.0.input.kind": ["video", None],
    "artifacts.0.outputs": [None, {}, ["logits"]],
    "artifacts.0.outputs.0.shape": [None, 3, [2.5], [None]],
    "artifacts.0.options": [None, [], {"ios": None}, {"ios": [17]}],
    "artifacts.0.created_with": [None, ["onnx"], {"onnx": 1}],
    "artifacts.0.calibration.n": ["many", None],
    "artifacts.0.excluded_layers": ["head", None, [1]],
}


@pytest.mark.parametrize(("place", "value"), [(place, value) for place in WRONG_TYPES for value in WRONG_TYPES[place]])
def test_wrong_types_are_refused_and_the_place_is_named(tmp_path: Path, place: str, value: Any) -> None:
    assert place in refusal(tmp_path, changed(place, value))


@pytest.mark.parametrize("place", ["artifacts.0.path", "weights.file"])
@pytest.mark.parametrize(
    "name",
    [
        "../x", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "C:\\x", ".hidden", "~/x", "-rf", "a\n", "a\0b", "a b",
        "ä", "x" * 201,
    ],
)  # fmt: skip
def test_a_file_name_never_leads_elsewhere(tmp_path: Path, place: str, name: str) -> None:
    assert place in refusal(tmp_path, changed(place, name))


@pytest.mark.parametrize("name", ["a..b", "x.onnx", "_x-1.tflite", "x" * 200])
def test_plain_file_names_are_fine(tmp_path: Path, name: str) -> None:
    assert opened(tmp_path, changed("artifacts.0.path", name)).artifacts[0].path == name


@pytest.mark.parametrize("name", ["another.onnx", "weights-cccc.safetensors", "manifest.json"])
def test_one_name_is_one_file(tmp_path: Path, name: str) -> None:
    assert "listed twice" in refusal(tmp_path, changed("artifacts.0.path", name))


def test_the_weights_are_not_the_manifest(tmp_path: Path) -> None:
    assert "listed twice" in refusal(tmp_path, changed("weights.file", "manifest.json"))


@pytest.mark.parametrize("version", [1, 3, 0, -1, 10**30, "1"])
def test_another_schema_is_refused(tmp_path: Path, version: Any) -> None:
    message = refusal(tmp_path, changed("schema_version", version))
    assert "schema_version" in message
    assert "another version" in message


@pytest.mark.parametrize(
    ("place", "value"),
    [("architecture.num_classes", 4), ("architecture.num_classes", 0), ("labels", []), ("labels", ["a", "b"])],
)
def test_labels_and_classes_must_agree(tmp_path: Path, place: str, value: Any) -> None:
    assert "labels for" in refusal(tmp_path, changed(place, value))


@pytest.mark.parametrize("classes", [-3, "three", 2.5, None, {}, True])
def test_a_model_has_classes(tmp_path: Path, classes: Any) -> None:
    assert "architecture.num_classes" in refusal(tmp_path, changed("architecture.num_classes", classes))


@pytest.mark.parametrize(("task", "classes"), [("classification", 0), ("features", 3)])
def test_features_alone_have_no_classes(tmp_path: Path, task: str, classes: int) -> None:
    fields = json.loads(changed("task", task)) | {"labels": None}
    fields["architecture"]["num_classes"] = classes
    assert f"{classes} classes do not fit the task '{task}'" in refusal(tmp_path, json.dumps(fields).encode())


def test_an_architecture_without_classes_is_refused(tmp_path: Path) -> None:
    architecture = {key: value for key, value in FIELDS["architecture"].items() if key != "num_classes"}
    assert "architecture.num_classes" in refusal(tmp_path, changed("architecture", architecture))


@pytest.mark.parametrize(("place", "value"), [("task", "sorting"), ("network", "resnet")])
def test_an_unknown_task_or_network_is_named(tmp_path: Path, place: str, value: str) -> None:
    assert repr(value) in refusal(tmp_path, changed(place, value))


def test_an_unknown_variant_is_named(tmp_path: Path) -> None:
    assert "'xxl'" in refusal(tmp_path, changed("variant", "xxl"))


def test_an_architecture_of_another_variant_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, changed("variant", "xs"))
    assert "the architecture is xxs, not 'xs'" in said
    assert "the architecture is custom, not 'xxs'" in refusal(
        tmp_path, changed("architecture.window_sizes", (2, 2, 1, 1))
    )
    assert "architecture.window_sizes.0" in refusal(tmp_path, changed("architecture.window_sizes", (0, 2, 1, 1)))


@pytest.mark.parametrize(("field", "value"), [("format", "gguf"), ("precision", "fp7"), ("target", "ane")])
def test_an_unknown_kind_of_artifact_is_named(tmp_path: Path, field: str, value: str) -> None:
    message = refusal(tmp_path, changed(f"artifacts.0.{field}", value))
    assert "unknown kind of artifact" in message
    assert value in message


@pytest.mark.parametrize(
    "place",
    [
        "",
        "weights.",
        "preprocessing.",
        "preprocessing.resize.",
        "artifacts.0.",
        "artifacts.0.input.",
        "artifacts.0.outputs.0.",
    ],
)
def test_unknown_keys_are_refused(tmp_path: Path, place: str) -> None:
    assert f"{place}surprise" in refusal(tmp_path, changed(f"{place}surprise", 1))


@pytest.mark.parametrize(
    "missing", sorted(set(FIELDS) - {"schema_version", "artifacts", "calibrations", "assumed", "scores"})
)
def test_missing_keys_are_refused(tmp_path: Path, missing: str) -> None:
    fields = {key: value for key, value in FIELDS.items() if key != missing}
    assert missing in refusal(tmp_path, json.dumps(fields).encode())


HOSTILE = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"weights":' * 200_000,
    "deep in an unknown key": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not UTF-8": CONTENT.replace(b"tench", b"t\xffnch"),
    "UTF-16": CONTENT.decode().encode("utf-16"),
    "half a surrogate pair": CONTENT.replace(b"tench", rb"\ud800"),
    "a byte order mark": b"\xef\xbb\xbf" + CONTENT,
    "more after the end": CONTENT + b"{}",
    "NaN": CONTENT.replace(b"0.485", b"NaN"),
    "Infinity": CONTENT.replace(b"0.229", b"Infinity"),
    "1e999": CONTENT.replace(b"0.229", b"1e999"),
    "a huge side": CONTENT.replace(b'"width": 256', b'"width": 1' + b"0" * 5000),
    "a huge cover": CONTENT.replace(b"292", b"1" + b"0" * 400),
    "many digits": CONTENT.replace(b'"bytes": 5', b'"bytes": 1' + b"0" * 5000),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_manifests(tmp_path: Path, content: bytes) -> None:
    assert content != CONTENT
    refusal(tmp_path, content)


# Names of artifacts


def test_artifact_names_follow_the_contract() -> None:
    assert artifact_name("xxs", "fp32", "cpu", "cpu", ".onnx") == "cloformer_xxs-fp32.onnx"
    assert artifact_name("s", "int8", "hexagon", "cpu", ".tflite") == "cloformer_s-int8-hexagon.tflite"
    assert artifact_name("xs", "fp16", "ane", "ane", ".mlpackage") == "cloformer_xs-fp16.mlpackage"
