"""Incomplete, damaged and malicious packages: each is rejected with a BundleError."""

import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloformer_deploy.backends.coreml.interpreter import Package, Program
from cloformer_deploy.backends.coreml.interpreter.constants import WeightFile
from cloformer_deploy.backends.coreml.interpreter.types import DTYPES, TensorType
from cloformer_deploy.errors import BundleError, MissingPartError, ToolError
from tests.backends.coreml.interpreter.coreml_programs import (
    MODEL,
    WEIGHTS,
    assert_rejected,
    blob,
    edit,
    edit_manifest,
    operations,
)

pytestmark = pytest.mark.integration

FLOAT32 = DTYPES[11]


def test_valid_package(package: Path) -> None:
    assert Program.load(package).constants["conv_weight_0"].shape == (4, 4, 3, 1)


def test_not_a_folder(tmp_path: Path, package: Path) -> None:
    assert_rejected(tmp_path / "absent.mlpackage", "does not exist")
    assert_rejected(package / MODEL, "is not a folder")


@pytest.mark.parametrize("part", ["Manifest.json", MODEL, WEIGHTS])
def test_missing_file(package: Path, part: str) -> None:
    (package / part).unlink()
    assert_rejected(package, Path(part).name)


@pytest.mark.parametrize("part", ["Manifest.json", MODEL, WEIGHTS])
def test_empty_file(package: Path, part: str) -> None:
    (package / part).write_bytes(b"")
    assert_rejected(package, f"{Path(part).name}.* is empty")


@pytest.mark.parametrize("part", ["Manifest.json", MODEL, WEIGHTS])
def test_file_above_the_size_limit(package: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The file is enlarged so that it is the only one above the limit.
    (package / part).write_bytes((package / part).read_bytes().ljust(100_000))
    monkeypatch.setattr("cloformer_deploy.backends.package_files.MAX_FILE_BYTES", 99_999)
    assert_rejected(package, f"{Path(part).name}' has 100000 bytes, more than the limit of 99999")


@pytest.mark.parametrize("part", ["Manifest.json", MODEL, WEIGHTS])
def test_file_reached_through_a_link(package: Path, tmp_path: Path, part: str) -> None:
    outside = tmp_path / "outside"
    shutil.move(package / part, outside)
    (package / part).symlink_to(outside)
    assert_rejected(package, "is a link to")


def test_folder_reached_through_a_link(package: Path, tmp_path: Path) -> None:
    shutil.move(package / "Data", tmp_path / "Data")
    (package / "Data").symlink_to(tmp_path / "Data")
    assert_rejected(package, "is a link to")


def test_link_to_the_package_is_followed(package: Path, tmp_path: Path) -> None:
    (tmp_path / "link.mlpackage").symlink_to(package)
    assert Program.load(tmp_path / "link.mlpackage")


@pytest.mark.parametrize(
    "path", ["../../outside", "/etc/passwd", "a/../../b", "com.apple.CoreML//model.mlmodel", "C:\\x", "", "a\x00b", "."]
)
def test_manifest_path_outside_the_package(package: Path, path: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = path

    assert_rejected(edit_manifest(package, change), "not a plain path")


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("rootModelIdentifier"),
        lambda manifest: manifest.pop("itemInfoEntries"),
        lambda manifest: manifest.update(itemInfoEntries=[1]),
        lambda manifest: manifest.update(rootModelIdentifier="someone-else"),
        lambda manifest: manifest.update(rootModelIdentifier=["x"]),
        lambda manifest: manifest["itemInfoEntries"].update(more={"path": 7}),
    ],
)
def test_manifest_without_a_model(package: Path, change: Callable[[dict[str, Any]], None]) -> None:
    assert_rejected(edit_manifest(package, change), "Manifest.json")


def test_manifest_with_a_missing_item(package: Path) -> None:
    assert_rejected(
        edit_manifest(package, lambda each: each["itemInfoEntries"].update(more={"path": "gone"})), "'gone'"
    )


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("@model_path/../../../outside.bin", "not a plain path"),
        ("@model_path//etc/passwd", "not a plain path"),
        ("/etc/passwd", "does not begin with"),
        ("@model_path/weights/other.bin", "no file"),
        ("@model_path/weights", "no file"),
    ],
)
def test_weight_file_name_outside_the_package(package: Path, name: str, match: str) -> None:
    (package.parent / "outside.bin").write_bytes(bytes(256))

    def change(spec: Any) -> None:
        for operation in operations(spec):
            if operation.attributes["val"].HasField("blobFileValue"):
                operation.attributes["val"].blobFileValue.fileName = name

    assert_rejected(edit(package, change), match)


def test_not_an_ml_program(package: Path) -> None:
    assert_rejected(
        edit(package, lambda spec: spec.neuralNetwork.SetInParent()), "not an ML program but 'neuralNetwork'"
    )


def test_truncated_protobuf(package: Path) -> None:
    content = (package / MODEL).read_bytes()
    (package / MODEL).write_bytes(content[: len(content) // 2])
    assert_rejected(package, "model.mlmodel.* is truncated or damaged")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (bytearray(8), "fewer than its 64-byte header"),
        (blob(bytes(16), 2, version=1), "version 1, expected 2"),
        (blob(bytes(16), 2, count=0), "declares 0 entries"),
        (blob(bytes(16), 2, count=2**31), "declares 2147483648 entries"),
        (blob(bytes(16), 2, sentinel=7), "the marker there is 0x7"),
        (blob(bytes(16), 1), "data type 1 in the entry at byte 64, expected 2"),
        (blob(bytes(16), 2, size=2**60), "has an invalid data position"),
        (blob(bytes(16), 2, start=192), "has an invalid data position"),
        (blob(bytes(16), 2, start=0), "has an invalid data position"),
        (blob(bytes(16), 2, start=2**64 - 64), "has an invalid data position"),
        (blob(bytes(12), 2), "12 bytes of data in the entry at byte 64, expected 16"),
    ],
)
def test_damaged_weight_file(content: bytearray, match: str) -> None:
    with pytest.raises(BundleError, match=match):
        WeightFile("w", content).decode(64, TensorType(FLOAT32, (4,)))


def test_valid_weight_file() -> None:
    content = blob(np.array([1, 2, 3, 4], "<f4").tobytes(), 2)
    np.testing.assert_array_equal(WeightFile("w", content).decode(64, TensorType(FLOAT32, (2, 2))), [[1, 2], [3, 4]])


@pytest.mark.parametrize(("number", "expected"), [(25, [-3, 7, -8]), (35, [13, 7, 8])], ids=["int4", "uint4"])
def test_elements_of_fewer_than_8_bits(number: int, expected: list[int]) -> None:
    content = blob(b"\x7d\x08", DTYPES[number].blob, unused_bits=4)
    np.testing.assert_array_equal(WeightFile("w", content).decode(64, TensorType(DTYPES[number], (3,))), expected)
    with pytest.raises(BundleError, match="4 unused bits in the entry at byte 64, expected 0"):
        WeightFile("w", content).decode(64, TensorType(DTYPES[number], (4,)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    part=st.sampled_from(["Manifest.json", MODEL, WEIGHTS]),
    cut=st.one_of(st.none(), st.floats(0, 1)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=4),
)
def test_random_damage(
    original: Path, package: Path, part: str, cut: float | None, changes: list[tuple[float, bytes]]
) -> None:
    """With any bytes changed, loading returns a program or raises BundleError; running returns or raises ToolError."""
    content = bytearray((original / part).read_bytes())
    if cut is not None:
        del content[int(cut * len(content)) :]
    for where, new in changes:
        start = int(where * max(0, len(content) - len(new)))
        content[start : start + len(new)] = new
    (package / part).write_bytes(content)
    try:
        program = Program.load(package)
    except BundleError:
        return
    finally:
        shutil.copy(original / part, package / part)
    shapes = {feature.name: feature.shape for feature in program.package.inputs}
    if shapes == {"x": (1, 4, 6, 5)}:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy warns about NaN in the weights.
                program.run({"x": np.zeros((1, 4, 6, 5), np.float32)})
        except ToolError:
            return


def test_without_coremltools(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    monkeypatch.setitem(sys.modules, "coremltools.proto", None)
    with pytest.raises(MissingPartError, match="needs coremltools") as caught:
        Package.load(package)
    assert caught.value.hint == "pip install 'cloformer-deploy[coreml]'"


@pytest.mark.parametrize("place", ["Data/extra", "extra", "Data/com.apple.CoreML/weights/more.bin"])
def test_a_link_anywhere_is_refused(place: str, package: Path, tmp_path: Path) -> None:
    """Core ML reads what the manifest does not list too."""
    (tmp_path / "outside").write_bytes(b"x")
    (package / place).symlink_to(tmp_path / "outside")
    assert_rejected(package, "is a link to")


def test_a_pipe_is_refused(package: Path) -> None:
    os.mkfifo(package / "Data" / "pipe")
    assert_rejected(package, "no regular file")


@pytest.mark.parametrize("path", ["/etc/passwd", "../Manifest.json", "a/../../b", "com.apple.CoreML//model.mlmodel"])
def test_a_manifest_that_leads_outside_is_refused(path: str, package: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        next(iter(manifest["itemInfoEntries"].values()))["path"] = path

    assert_rejected(edit_manifest(package, change), "not a plain path inside it")
