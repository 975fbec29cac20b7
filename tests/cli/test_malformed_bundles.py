"""Malformed bundles through the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import (
    CLASSES,
    CopyBundle,
    edit_manifest,
    invoke,
    put,
    read_manifest,
    relist,
    save,
    small_model,
)
from tests.cli.refusals import Case, check

pytestmark = pytest.mark.integration

ARTIFACT = "cloformer_xxs-fp32.onnx"


# Whatever is wrong shows when they are inspected and when they are validated.


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
    "schema-of-the-future": (in_manifest(lambda m: m.update(schema_version=3)), ["manifest.json", "schema_version"]),
    "schema-of-the-past": (in_manifest(lambda m: m.update(schema_version=1)), ["manifest.json", "schema_version"]),
    "key-missing": (in_manifest(lambda m: m.pop("variant")), ["manifest.json", "variant"]),
    "key-unknown": (in_manifest(lambda m: m.update(extra=1)), ["manifest.json", "extra"]),
    "value-of-wrong-type": (
        in_manifest(lambda m: m["architecture"].update(num_classes="ten")),
        ["manifest.json", "num_classes"],
    ),
    "task-unknown": (in_manifest(lambda m: m.update(task="sorting")), ["manifest.json", "'sorting'"]),
    "network-unknown": (in_manifest(lambda m: m.update(network="resnet")), ["manifest.json", "'resnet'"]),
    "variant-unknown": (in_manifest(lambda m: m.update(variant="xxl")), ["manifest.json", "'xxl'"]),
    "labels-too-few": (
        in_manifest(lambda m: m.update(labels=["a"])),
        ["manifest.json", "1 labels", f"{CLASSES} classes"],
    ),
    "artifact-listed-twice": (in_manifest(twice), ["manifest.json", "twice"]),
    "path-upwards": (listed(path="../outside.onnx"), ["manifest.json", "artifacts.0.path"]),
    "path-absolute": (listed(path="/etc/passwd"), ["manifest.json", "artifacts.0.path"]),
    "path-hidden": (listed(path=".hidden.onnx"), ["manifest.json", "artifacts.0.path"]),
    "weights-path-upwards": (
        in_manifest(lambda m: m["weights"].update(file="../weights.safetensors")),
        ["manifest.json", "weights.file"],
    ),
    "artifact-missing": (lambda bundle: (bundle / ARTIFACT).unlink(), [f"bundle/{ARTIFACT}", "missing"]),
    "artifact-of-another-name": (listed(path="other.onnx"), ["bundle/other.onnx", "missing"]),
    "artifact-one-byte": (lambda bundle: one_byte(bundle / ARTIFACT), [f"bundle/{ARTIFACT}", "sha256"]),
    "artifact-a-link": (lambda bundle: linked(bundle / ARTIFACT), [f"bundle/{ARTIFACT}", "symbolic link"]),
    "artifact-a-folder": (lambda bundle: folder_in_place_of(bundle / ARTIFACT), [f"bundle/{ARTIFACT}"]),
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
    """Before they are damaged, bundle and artifact are accepted."""
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


def test_artifact_that_does_not_take_what_the_manifest_says(drafted: CopyBundle, tmp_path: Path) -> None:
    listed(input={"kind": "image", "batch": 1})(drafted())
    check(Case("input-kind", ("validate", "bundle", "--limit", "1"), ("uint8",), code=4), tmp_path)


def test_artifact_that_no_runtime_loads(drafted: CopyBundle, tmp_path: Path) -> None:
    bundle = drafted()
    model = small_model()
    model.graph.node[0].op_type = "NoSuchOperator"
    save(model, bundle / ARTIFACT)
    relist(bundle)
    check(Case("operator", ("validate", "bundle"), (f"bundle/{ARTIFACT}", "NoSuchOperator"), code=4), tmp_path)


@pytest.mark.parametrize("classes", [1, 7])
def test_artifact_of_another_class_count(classes: int, drafted: CopyBundle, tmp_path: Path) -> None:
    bundle = drafted()
    save(small_model(classes), bundle / ARTIFACT)
    relist(bundle)
    check(
        Case(
            "classes", ("validate", "bundle", "--limit", "1"), (ARTIFACT, f"(1, {classes})", f"(1, {CLASSES})"), code=4
        ),
        tmp_path,
    )
