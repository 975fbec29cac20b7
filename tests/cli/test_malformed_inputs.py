"""Malformed inputs through the command line: refused with cause and next step, and nothing on disk changes."""

import json
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import Tensor

from cloformer_deploy.model_zoo import DEFAULT, resolve_weights
from tests.cli.command_line import (
    CLASSES,
    CopyBundle,
    Outcome,
    edit_manifest,
    invoke,
    parsed,
    put,
    read_manifest,
    relist,
    save,
    small_model,
    spawn,
    tree,
)

ARTIFACT = "cloformer_xxs-fp32.onnx"
STEM = "patch_embed.conv1.conv.0.weight"


@dataclass(frozen=True)
class Case:
    """One refused request.

    `told` must be in the message; `usage` is typer's own refusal, which has no next step; `fresh` runs in a
    process of its own when it answers in JSON, where nothing but the answer may reach standard output.
    """

    name: str
    args: tuple[str, ...]
    told: tuple[str, ...]
    code: int = 2
    usage: bool = False
    fresh: bool = False
    make: Callable[[Path], object] | None = None

    def __str__(self) -> str:
        return self.name


def ids(cases: Iterable[Case]) -> list[Any]:
    return [pytest.param(case, id=case.name) for case in cases]


def check(case: Case, folder: Path) -> None:
    """Run a case for people and for scripts: both are told, and the folder is as it was."""
    if case.make is not None:
        case.make(folder)
    before = tree(folder)
    for_people = run(case, folder)
    assert tree(folder) == before
    for_scripts = run(case, folder, json=True)
    assert tree(folder) == before

    assert for_people.code == case.code, for_people.said
    assert for_people.stdout == ""
    assert "Traceback" not in for_people.stderr
    for told in case.told:
        assert told in for_people.said
    if case.usage:
        assert "Error" in for_people.stderr
    else:
        cause, following = for_people.stderr.split("Error: ")[-1].split("\n  Next: ")
        assert cause.strip()
        assert following.strip()
        assert len(cause) < 1000

    assert for_scripts.code == case.code
    assert for_scripts.said.endswith(for_people.said[-40:]) or case.usage
    assert "Traceback" not in for_scripts.stderr
    answer = parsed(for_scripts.stdout)
    assert set(answer) == {"schema_version", "error"}
    assert answer["schema_version"] == 1
    assert set(answer["error"]) == {"code", "message", "hint"}
    assert answer["error"]["code"] == case.code
    assert answer["error"]["hint"]
    for told in case.told:
        assert told in answer["error"]["message"] + answer["error"]["hint"]


def run(case: Case, folder: Path, *, json: bool = False) -> Outcome:
    # After the command, not at the end, where an option that lacks its value would take it.
    args = (case.args[0], "--json", *case.args[1:]) if json else case.args
    return spawn(*args, cwd=folder) if case.fresh and json else invoke(*args)


# Options. The bundle at "out" is never touched.


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
    option("format-unknown", "--format", "hdf5", told=["'hdf5'", "onnx", "coreml", "tflite", "all"], fresh=True),
    option("format-unknown-beside-known", "--format", "onnx", "--format", "ONNX", told=["'ONNX'"]),
    option("format-empty", "--format", "", told=["''"]),
    option("precision-unknown", "--format", "onnx", "--precision", "int7", told=["'int7'", "fp32", "fp16"]),
    option("precision-of-two", "--format", "onnx", "--precision", "fp32", "--precision", "fp8", told=["'fp8'"]),
    option("target-unknown", "--format", "onnx", "--target", "tpu", told=["'tpu'", "cpu"]),
    option("target-of-another-format", "--format", "coreml", "--target", "cpu", told=["'cpu'", "coreml", "ane"]),
    option("target-of-not-all-formats", "--target", "ane", told=["'ane'", "onnx"]),
    option("input-kind-unknown", "--format", "onnx", "--input", "video", told=["'video'", "tensor", "image"]),
    option("variant-unknown", "--format", "onnx", "--variant", "xxl", told=["'xxl'", DEFAULT]),
    option("variant-without-weights", "--format", "onnx", "--variant", "s", told=["'s'", DEFAULT, "--weights"]),
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
    option("batch-zero", "--format", "onnx", "--batch", "0", told=["'0'", "256"]),
    option("batch-negative", "--format", "onnx", "--batch", "-3", told=["'-3'"]),
    option("batch-too-large", "--format", "onnx", "--batch", "257", told=["'257'"]),
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
    labels("too-few", text(lines(9)), "9 lines", "10 classes"),
    labels("too-many", text(lines(11)), "11 lines", "10 classes"),
    labels("none", b"", "0 lines"),
    labels("duplicate", text([*lines(9), "class 3"]), "'class 3'", "4 and 10"),
    labels("empty-line", text([*lines(4), " ", *lines(10)[5:]]), "line 5"),
    labels("not-utf-8", "é\n".encode("latin-1") * 10, "utf-8"),
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


# Weights.


class Code:
    """Unpickled, it makes a file: which would show in the folder's tree."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("code-ran"),)


Weights = dict[str, Tensor]


def torch_file(content: object) -> Callable[[Path], object]:
    return lambda folder: torch.save(content, folder / "bad.pth")


def raw(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "bad.pth").write_bytes(content)


def cut(share: float) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        whole = resolve_weights().read_bytes()
        (folder / "bad.pth").write_bytes(whole[: int(len(whole) * share)])

    return make


def weights(
    name: str, make: Callable[[Path], object], *told: str, more: tuple[str, ...] = (), fresh: bool = False
) -> Case:
    args = ("export", "--format", "onnx", "--output", "new/out", "--weights", "bad.pth", *more)
    return Case(name, args, ("bad.pth", *told), make=make, fresh=fresh)


WEIGHTS = [
    weights("text", raw(b"these are not weights\n"), "neither a PyTorch nor a safetensors file"),
    weights("empty", raw(b""), "empty"),
    weights("missing", lambda folder: None),
    weights("a-folder", lambda folder: (folder / "bad.pth").mkdir(), "directory"),
    weights("truncated", cut(0.9), "truncated or damaged"),
    weights("truncated-in-the-header", cut(0.0005), "truncated or damaged"),
    weights("pickled-code", torch_file({"state_dict": Code()}), "never run", fresh=True),
    weights("pickled-code-legacy", raw(pickle.dumps(Code(), 2)), "never run"),
    weights("a-list", torch_file([torch.zeros(3)]), "list"),
    weights("no-tensors", torch_file({"epoch": 3}), "no tensors", "epoch"),
    weights("another-network", torch_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}), "conv1.weight"),
    weights(
        "of-another-variant",
        lambda folder: shutil.copy(resolve_weights(), folder / "bad.pth"),
        "xxs weights, not s",
        more=("--variant", "s"),
    ),
    Case("of-an-unknown-variant", ("export", "--weights", DEFAULT, "--variant", "xxl"), ("'xxl'", "xxs")),
    Case("unknown-name", ("export", "--weights", "xxs-imagenet"), ("'xxs-imagenet'", DEFAULT), fresh=True),
    Case("empty-name", ("export", "--weights", ""), ("''", DEFAULT)),
]


@pytest.mark.parametrize("case", ids(WEIGHTS))
def test_weights(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def filled(name: str, value: float) -> Callable[[Weights], Weights]:
    return lambda state: state | {name: torch.full_like(state[name], value)}


CHANGES: dict[str, tuple[Callable[[Weights], Weights], list[str]]] = {
    "nan": (filled(STEM, float("nan")), [STEM, "NaN"]),
    "infinite": (filled(STEM, float("inf")), [STEM, "infinite"]),
    "negative-variance": (filled("patch_embed.conv1.conv.1.running_var", -1.0), ["running_var", "negative"]),
    "missing-key": (lambda state: {key: state[key] for key in state if key != STEM}, [STEM, "missing 1"]),
    "unknown-key": (lambda state: state | {"head.gain": torch.ones(1)}, ["head.gain", "unknown 1"]),
    "shape": (lambda state: state | {STEM: torch.ones(1, 2, 3)}, [STEM, "(1, 2, 3)"]),
    "integers": (lambda state: state | {STEM: state[STEM].to(torch.int32)}, [STEM, "int32"]),
    "no-classes": (
        lambda state: state | {"head.weight": state["head.weight"][:0], "head.bias": state["head.bias"][:0]},
        ["head.weight"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights(change: str, xxs_weights: Weights, tmp_path: Path) -> None:
    edit, told = CHANGES[change]
    check(weights(change, torch_file(edit(xxs_weights)), *told), tmp_path)


# Pictures.


def picture(path: Path, seed: int = 0, side: int = 64) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def truncated(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        path = folder / "data" / name
        content = picture(path)
        path.write_bytes(content[: len(content) // 2])

    return make


def files(*names: str) -> Callable[[Path], object]:
    return lambda folder: [picture(folder / "data" / name) for name in names]


def written(name: str, content: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        picture(folder / "data" / "good.png")
        (folder / "data" / name).write_bytes(content)

    return make


def huge_png() -> bytes:
    """A PNG that says it has 400 million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def gif_called_jpg(folder: Path) -> None:
    picture(folder / "data" / "x.gif")
    (folder / "data" / "x.gif").rename(folder / "data" / "x.jpg")


def only_text(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "a.txt").touch()


def pictures(name: str, make: Callable[[Path], object], *told: str, fresh: bool = False) -> Case:
    return Case(name, ("validate", "bundle", "--data", "data"), ("data", *told), make=make, fresh=fresh)


PICTURES = [
    pictures("text", written("text.jpg", b"not a picture"), "data/text.jpg", fresh=True),
    pictures("empty-file", written("empty.png", b""), "data/empty.png"),
    pictures("truncated-png", truncated("half.png"), "data/half.png"),
    pictures("truncated-jpeg", truncated("half.jpg"), "data/half.jpg"),
    pictures("truncated-in-class", truncated("tench/half.png"), "data/tench/half.png"),
    pictures("another-format", gif_called_jpg, "data/x.jpg"),
    pictures("too-many-pixels", written("huge.png", huge_png()), "data/huge.png"),
    pictures("empty-folder", lambda folder: (folder / "data").mkdir(), "no JPEG, PNG or WebP pictures"),
    pictures("only-other-files", only_text, "no JPEG, PNG or WebP pictures"),
    pictures("missing-folder", lambda folder: None, "not a folder"),
    pictures("a-file", lambda folder: (folder / "data").touch(), "not a folder"),
    pictures("mixed-layout", files("a.png", "b.png", "class/c.png"), "2 pictures beside sub-folders"),
    pictures("too-many-classes", files(*(f"c{index}/a.png" for index in range(11))), "11 sub-folders", "10 classes"),
    pictures("only-some-labels-known", files("tench/a.png", "carp/a.png"), "carp"),
]


@pytest.mark.parametrize("case", ids(PICTURES))
def test_pictures(case: Case, drafted: CopyBundle, tmp_path: Path) -> None:
    drafted()
    check(case, tmp_path)


# Bundles: whatever is wrong shows when they are inspected and when they are validated.


def one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    put(path, bytes(content))


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def listed(**values: object) -> Callable[[Path], object]:
    return lambda bundle: edit_manifest(bundle, lambda manifest: manifest["artifacts"][0].update(values))


def in_manifest(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    return lambda bundle: edit_manifest(bundle, edit)


def manifest_text(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def make(bundle: Path) -> None:
        path = bundle / "manifest.json"
        put(path, change(path.read_bytes()))

    return make


def weights_copy(bundle: Path) -> Path:
    return bundle / str(read_manifest(bundle)["weights"]["file"])


def folder_in_place_of(path: Path) -> None:
    path.unlink()
    path.mkdir()


def twice(manifest: dict[str, Any]) -> None:
    manifest["artifacts"] *= 2


DAMAGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no-manifest": (lambda bundle: (bundle / "manifest.json").unlink(), ["bundle", "manifest.json"]),
    "manifest-truncated": (manifest_text(lambda content: content[:300]), ["bundle/manifest.json"]),
    "manifest-empty": (manifest_text(lambda content: b""), ["bundle/manifest.json"]),
    "manifest-a-list": (manifest_text(lambda content: b"[]"), ["bundle/manifest.json"]),
    "manifest-binary": (manifest_text(lambda content: bytes(range(128, 256))), ["bundle/manifest.json"]),
    "manifest-nested-deep": (manifest_text(lambda content: b"[" * 10**5), ["bundle/manifest.json"]),
    "manifest-a-folder": (lambda bundle: folder_in_place_of(bundle / "manifest.json"), ["bundle/manifest.json"]),
    "schema-of-the-future": (in_manifest(lambda m: m.update(schema_version=2)), ["manifest.json", "schema_version"]),
    "key-missing": (in_manifest(lambda m: m.pop("variant")), ["manifest.json", "variant"]),
    "key-unknown": (in_manifest(lambda m: m.update(extra=1)), ["manifest.json", "extra"]),
    "value-of-wrong-type": (in_manifest(lambda m: m.update(num_classes="ten")), ["manifest.json", "num_classes"]),
    "variant-unknown": (in_manifest(lambda m: m.update(variant="xxl")), ["manifest.json", "'xxl'"]),
    "labels-too-few": (in_manifest(lambda m: m.update(labels=["a"])), ["manifest.json", "1 labels", "10 classes"]),
    "artefact-listed-twice": (in_manifest(twice), ["manifest.json", "twice"]),
    "path-upwards": (listed(path="../outside.onnx"), ["manifest.json", "artifacts.0.path"]),
    "path-absolute": (listed(path="/etc/passwd"), ["manifest.json", "artifacts.0.path"]),
    "path-hidden": (listed(path=".hidden.onnx"), ["manifest.json", "artifacts.0.path"]),
    "weights-path-upwards": (
        in_manifest(lambda m: m["weights"].update(file="../weights.safetensors")),
        ["manifest.json", "weights.file"],
    ),
    "artefact-missing": (lambda bundle: (bundle / ARTIFACT).unlink(), [f"bundle/{ARTIFACT}", "missing"]),
    "artefact-of-another-name": (listed(path="other.onnx"), ["bundle/other.onnx", "missing"]),
    "artefact-one-byte": (lambda bundle: one_byte(bundle / ARTIFACT), [f"bundle/{ARTIFACT}", "sha256"]),
    "artefact-a-link": (lambda bundle: linked(bundle / ARTIFACT), [f"bundle/{ARTIFACT}", "symbolic link"]),
    "artefact-a-folder": (lambda bundle: folder_in_place_of(bundle / ARTIFACT), [f"bundle/{ARTIFACT}"]),
    "weights-missing": (lambda bundle: weights_copy(bundle).unlink(), ["bundle/weights-", "missing"]),
    "weights-one-byte": (lambda bundle: one_byte(weights_copy(bundle)), ["bundle/weights-", "sha256"]),
    "weights-a-link": (lambda bundle: linked(weights_copy(bundle)), ["bundle/weights-", "symbolic link"]),
}


@pytest.mark.parametrize("command", ["inspect", "validate"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_bundles(damage: str, command: str, drafted: CopyBundle, tmp_path: Path) -> None:
    make, told = DAMAGES[damage]
    make(drafted())
    check(Case(damage, (command, "bundle"), tuple(told), fresh=damage == "path-upwards"), tmp_path)


@pytest.mark.parametrize("command", ["inspect", "validate"])
def test_bundle_missing(command: str, tmp_path: Path) -> None:
    check(Case("missing", (command, "no/such/bundle"), ("no/such/bundle",), fresh=True), tmp_path)


def test_bundle_is_a_file(drafted: CopyBundle, tmp_path: Path) -> None:
    bundle = drafted()
    check(Case("a-file", ("validate", f"bundle/{ARTIFACT}"), (f"bundle/{ARTIFACT}",)), tmp_path)
    check(Case("manifest", ("inspect", f"{bundle}/manifest.json"), (f"{bundle}/manifest.json",)), tmp_path)


def test_undamaged_bundle_is_not_refused(drafted: CopyBundle) -> None:
    """What the cases above damage is sound before."""
    drafted()
    assert invoke("inspect", "bundle").code == 0
    shown = invoke("inspect", f"bundle/{ARTIFACT}")
    assert shown.code == 0, shown.said


# Bundles whose checksums are right.


@pytest.mark.parametrize("command", ["inspect", "validate"])
@pytest.mark.parametrize(
    ("values", "told"),
    [({"format": "hdf5"}, "hdf5"), ({"precision": "int7"}, "int7"), ({"target": "tpu"}, "tpu")],
    ids=["format", "precision", "target"],
)
def test_manifest_with_unknown_words(
    values: dict[str, str], told: str, command: str, drafted: CopyBundle, tmp_path: Path
) -> None:
    listed(**values)(drafted())
    limit = ("--limit", "1") if command == "validate" else ()
    check(Case("unknown-word", (command, "bundle", *limit), (told,)), tmp_path)


def test_artefact_that_does_not_take_what_the_manifest_says(drafted: CopyBundle, tmp_path: Path) -> None:
    listed(input={"kind": "image", "batch": 1})(drafted())
    check(Case("input-kind", ("validate", "bundle", "--limit", "1"), ("uint8",), code=4), tmp_path)


def test_artefact_that_no_runtime_loads(drafted: CopyBundle, tmp_path: Path) -> None:
    bundle = drafted()
    model = small_model()
    model.graph.node[0].op_type = "NoSuchOperator"
    save(model, bundle / ARTIFACT)
    relist(bundle)
    check(Case("operator", ("validate", "bundle"), (f"bundle/{ARTIFACT}", "NoSuchOperator"), code=4), tmp_path)


@pytest.mark.parametrize("classes", [1, 7])
def test_artefact_of_another_class_count(classes: int, drafted: CopyBundle, tmp_path: Path) -> None:
    bundle = drafted()
    save(small_model(classes), bundle / ARTIFACT)
    relist(bundle)
    check(
        Case(
            "classes", ("validate", "bundle", "--limit", "1"), (ARTIFACT, f"(1, {classes})", f"(1, {CLASSES})"), code=4
        ),
        tmp_path,
    )


# Artefacts by themselves.


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


def artefact(name: str, path: str, make: Callable[[Path], object], *told: str, fresh: bool = False) -> Case:
    return Case(name, ("inspect", path), told, make=make, fresh=fresh)


ITEMS = {"itemInfoEntries": {"a": {"path": "../../../etc/passwd"}}, "rootModelIdentifier": "a"}
ARTIFACTS = [
    artefact("missing", "no.onnx", lambda folder: None, "no.onnx"),
    artefact("suffix-unknown", "model.bin", as_file("model.bin", b"x"), "model.bin", ".onnx"),
    artefact("onnx-text", "a.onnx", as_file("a.onnx", b"text"), "a.onnx"),
    artefact("onnx-empty", "a.onnx", as_file("a.onnx", b""), "a.onnx"),
    artefact(
        "onnx-truncated", "a.onnx", as_file("a.onnx", small_model().SerializeToString()[:-9]), "a.onnx", fresh=True
    ),
    artefact("onnx-weights-outside", "outside.onnx", outside_weights, "outside.onnx", "weight", fresh=True),
    artefact("onnx-a-folder", "a.onnx", lambda folder: (folder / "a.onnx").mkdir(), "a.onnx"),
    artefact("tflite-text", "a.tflite", as_file("a.tflite", b"this is text"), "a.tflite", "TFLite"),
    artefact("tflite-empty", "a.tflite", as_file("a.tflite", b""), "a.tflite"),
    artefact("tflite-random", "a.tflite", as_file("a.tflite", b"\x20\0\0\0TFL3" + b"\xff" * 99), "a.tflite"),
    artefact("mlpackage-missing", "a.mlpackage", lambda folder: None, "a.mlpackage"),
    artefact("mlpackage-a-file", "a.mlpackage", as_file("a.mlpackage", b"x"), "a.mlpackage"),
    artefact("mlpackage-empty", "a.mlpackage", package(), "Manifest.json"),
    artefact("mlpackage-manifest-damaged", "a.mlpackage", package(manifest="{"), "Manifest.json"),
    artefact("mlpackage-model-outside", "a.mlpackage", package(manifest=json.dumps(ITEMS)), "../../../etc/passwd"),
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
