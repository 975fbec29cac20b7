"""Malformed options, label files and outputs through the command line."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from cloformer_deploy.weights.zoo import DEFAULT
from tests.cli.command_line import CLASSES, CopyBundle, edit_manifest, put
from tests.cli.refusals import Case, check, ids

pytestmark = pytest.mark.integration


def option(name: str, *args: str, told: Iterable[str], fresh: bool = False, usage: bool = False) -> Case:
    return Case(name, ("export", "--output", "out", "--overwrite", *args), tuple(told), fresh=fresh, usage=usage)


def size(text: str, *told: str, fresh: bool = False) -> Case:
    name = f"size {text!r}".replace(" ", "-")
    return option(name, "--format", "onnx", f"--input-size={text}", told=told, fresh=fresh)


def labels(name: str, content: bytes | None, *told: str) -> Case:
    def make(folder: Path) -> None:
        if content is not None:
            (folder / "names.txt").write_bytes(content)

    args = ("export", "--format", "onnx", "--output", "out", "--overwrite", "--labels", "names.txt")
    return Case(f"labels-{name}", args, ("names.txt", *told), make=make)


def lines(count: int) -> list[str]:
    return [f"class {index}" for index in range(count)]


def text(names: list[str]) -> bytes:
    return "\n".join(names).encode() + b"\n"


OPTIONS = [
    option("format-unknown", "--format", "hdf5", told=["'hdf5'", "onnx", "coreml", "tflite"], fresh=True),
    option("format-unknown-beside-known", "--format", "onnx", "--format", "ONNX", told=["'ONNX'"]),
    option("format-empty", "--format", "", told=["''"]),
    option("precision-unknown", "--format", "onnx", "--precision", "int7", told=["'int7'", "fp32", "fp16"]),
    option("precision-of-two", "--format", "onnx", "--precision", "fp32", "--precision", "fp8", told=["'fp8'"]),
    option("target-unknown", "--format", "onnx", "--target", "tpu", told=["'tpu'", "cpu"]),
    option("target-of-another-format", "--format", "coreml", "--target", "cpu", told=["'cpu'", "coreml", "ane"]),
    option("target-of-not-all-formats", "--target", "ane", told=["'ane'", "onnx"]),
    option("input-kind-unknown", "--format", "onnx", "--input", "video", told=["'video'", "tensor", "image"]),
    option("variant-unknown", "--format", "onnx", "--variant", "xxl", told=["'xxl'", "xxs, xs, s"]),
    option("variant-without-weights", "--format", "onnx", "--variant", "s", told=["'s'", DEFAULT, "weights file"]),
    size("225", "225", "32", "224", fresh=True),
    size("0", "0", "32"),
    size("-32", "'-32'"),
    size("16", "16", "32"),
    size("abc", "'abc'", "256x192"),
    size("", "''"),
    size("224x", "'224x'"),
    size("x224", "'x224'"),
    size("224x224x3", "'224x224x3'"),
    size("224x225", "width", "225"),
    size("999999", "999999", "2048"),
    size("9" * 40, "9" * 40),
    option("batch-zero", "--format", "onnx", "--batch", "0", told=["batch 0", "256"]),
    option("batch-negative", "--format", "onnx", "--batch", "-3", told=["'-3'"]),
    option("batch-too-large", "--format", "onnx", "--batch", "257", told=["batch 257"]),
    option("batch-text", "--format", "onnx", "--batch", "many", told=["'many'", "dynamic"]),
    option("batch-dynamic-tflite", "--format", "tflite", "--batch", "dynamic", told=["tflite", "--batch", "onnx"]),
    option("batch-dynamic-all", "--batch", "dynamic", told=["coreml", "onnx"]),
    option("image-input-batch", "--format", "coreml", "--input", "image", "--batch", "2", told=["2", "--batch 1"]),
    option("ios-too-old", "--format", "onnx", "--ios", "14", told=["iOS 14", "15"]),
    option("ios-text", "--ios", "seventeen", told=["--ios"], usage=True),
    option("option-unknown", "--colour", "red", told=["--colour"], usage=True, fresh=True),
    option("option-without-value", "--format", told=["--format"], usage=True),
    option("argument-too-many", "extra", told=["extra"], usage=True),
    Case("command-unknown", ("frobnicate",), ("frobnicate",), usage=True, fresh=True),
    Case("option-unknown-before-command", ("--colour", "doctor"), ("--colour",), usage=True),
    Case("bundle-not-given", ("validate",), ("BUNDLE",), usage=True),
    Case("artifact-not-given", ("inspect",), ("ARTIFACT|BUNDLE",), usage=True),
    Case("limit-zero", ("validate", "out", "--limit", "0"), ("--limit",), usage=True),
    Case("limit-text", ("validate", "out", "--limit", "few"), ("--limit",), usage=True),
    labels("missing", None),
    labels("too-few", text(lines(CLASSES - 1)), f"{CLASSES - 1} lines", f"{CLASSES} classes"),
    labels("too-many", text(lines(CLASSES + 1)), f"{CLASSES + 1} lines", f"{CLASSES} classes"),
    labels("none", b"", "0 lines"),
    labels("duplicate", text([*lines(CLASSES - 1), "class 3"]), "'class 3'", f"4 and {CLASSES}"),
    labels("empty-line", text([*lines(4), " ", *lines(CLASSES)[5:]]), "line 5"),
    labels("not-utf-8", "é\n".encode("latin-1") * CLASSES, "utf-8"),
]


@pytest.mark.parametrize("case", ids(OPTIONS))
def test_options(case: Case, drafted: CopyBundle, tmp_path: Path) -> None:
    drafted("out")
    check(case, tmp_path)


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
@pytest.mark.parametrize("output", ["file", "file/below"])
def test_output_is_a_file(output: str, overwrite: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    args = ("export", "--format", "onnx", "--output", output, *overwrite)
    check(Case("output-is-a-file", args, (output, "--output")), tmp_path)


def test_output_holds_a_bundle_of_other_weights(drafted: CopyBundle, tmp_path: Path) -> None:
    edit_manifest(drafted("out"), lambda manifest: manifest["weights"].update(name="other", sha256="5" * 64))
    args = ("export", "--format", "onnx", "--output", "out")
    check(Case("output-other-weights", args, ("out", "other", "5" * 12, "--overwrite")), tmp_path)


def test_output_holds_a_bundle_of_another_size(drafted: CopyBundle, tmp_path: Path) -> None:
    drafted("out")
    args = ("export", "--format", "onnx", "--output", "out", "--input-size", "256")
    check(Case("output-other-size", args, ("out", "224 x 224", "--overwrite")), tmp_path)


def test_output_holds_a_damaged_bundle(drafted: CopyBundle, tmp_path: Path) -> None:
    put(drafted("out") / "manifest.json", b"{")
    args = ("export", "--format", "onnx", "--output", "out")
    check(Case("output-damaged", args, ("out/manifest.json", "--overwrite")), tmp_path)
