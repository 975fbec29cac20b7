"""Writing bundles: what a commit adds, replaces and refuses, and one writer at a time."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cloformer_deploy.bundle import Bundle, BundleWriter, digest
from cloformer_deploy.bundle.manifest import Interface, Manifest
from cloformer_deploy.errors import BundleError
from cloformer_deploy.networks.cloformer import VARIANTS
from tests.bundle.small_bundles import FILE, FOLDER, OTHER, assert_whole, export, failing, head, refusal, stage, tree


def test_an_export_makes_the_folder_and_lists_what_it_wrote(tmp_path: Path) -> None:
    root = tmp_path / "new" / "bundle"
    bundle = export(root, FILE, FOLDER)
    assert_whole(root, FILE, FOLDER)
    assert Bundle.open(root) == bundle
    assert [item.path for item in bundle.manifest.artifacts] == [FOLDER, FILE]  # sorted by format
    assert bundle.path(bundle.manifest.artifacts[1]).read_text() == f"1 {FILE}"
    assert digest(bundle.weights_path) == bundle.manifest.weights.file_sha256
    assert bundle.weights_path.read_text() == "first with labels ('a', 'b')"


def test_an_empty_folder_can_be_the_output(tmp_path: Path) -> None:
    export(tmp_path, FILE)
    assert_whole(tmp_path, FILE)


def test_the_same_weights_add_to_the_bundle_and_replace_their_own(tmp_path: Path) -> None:
    export(tmp_path, FILE, FOLDER, content="1")
    export(tmp_path, OTHER, content="2")
    assert_whole(tmp_path, FILE, FOLDER, OTHER)
    export(tmp_path, FOLDER, FILE, content="3")
    assert_whole(tmp_path, FILE, FOLDER, OTHER)
    assert (tmp_path / FILE).read_text().startswith("3")
    assert (tmp_path / FOLDER / "Manifest.json").read_text() == f"Manifest.json: 3 {FOLDER}"
    assert (tmp_path / OTHER).read_text().startswith("2")


def test_a_smaller_folder_replaces_a_larger_one_wholly(tmp_path: Path) -> None:
    export(tmp_path, FOLDER)
    (tmp_path / FOLDER / "Data" / "extra").write_text("left from before")
    export(tmp_path, FOLDER)
    assert_whole(tmp_path, FOLDER)


def test_a_damaged_artifact_is_healed_by_exporting_it_again(tmp_path: Path) -> None:
    weights = export(tmp_path, FILE, FOLDER).weights_path
    (tmp_path / FILE).unlink()
    weights.write_text("changed")
    shutil.rmtree(tmp_path / FOLDER)
    (tmp_path / FOLDER).write_text("a file where a folder was")
    export(tmp_path, FILE, FOLDER)
    assert_whole(tmp_path, FILE, FOLDER)


OTHERS = {
    "weights": (head("second"), "other weights: first"),
    "labels": (head(labels=("a", "c")), "other labels"),
    "no labels": (head(labels=None), "other labels"),
    "size": (head(side=256), "another input size: 224 x 224"),
    "architecture": (
        Manifest.model_validate(
            {**head().model_dump(), "variant": "xs", "architecture": VARIANTS["xs"].of_classes(2).as_json()}
        ),
        "another architecture",
    ),
}


@pytest.mark.parametrize(("manifest", "named"), OTHERS.values(), ids=OTHERS)
def test_another_model_is_refused_and_nothing_changes(tmp_path: Path, manifest: Manifest, named: str) -> None:
    export(tmp_path, FILE, FOLDER)
    (tmp_path / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    error = refusal(lambda: export(tmp_path, OTHER, manifest=manifest))
    assert named in error.message
    assert "--overwrite" in error.hint
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("manifest", "named"), OTHERS.values(), ids=OTHERS)
def test_with_overwrite_another_model_replaces_the_bundle_and_nothing_else(
    tmp_path: Path, manifest: Manifest, named: str
) -> None:
    export(tmp_path, FILE, FOLDER)
    foreign = [tmp_path / "notes.txt", tmp_path / "weights-mine.safetensors", tmp_path / "cloformer_s-fp32.onnx"]
    for path in foreign:
        path.write_text("mine")
    bundle = export(tmp_path, OTHER, FILE, manifest=manifest, overwrite=True)
    for path in foreign:
        assert path.read_text() == "mine"
        path.unlink()
    assert_whole(tmp_path, OTHER, FILE)
    assert Bundle.open(tmp_path).manifest == bundle.manifest


def test_overwrite_keeps_the_other_artifacts_of_the_same_model(tmp_path: Path) -> None:
    export(tmp_path, FILE)
    export(tmp_path, FOLDER, overwrite=True)
    assert_whole(tmp_path, FILE, FOLDER)


@pytest.mark.parametrize("stray", [FILE, FOLDER])
@pytest.mark.parametrize("made", ["file", "folder"])
def test_a_stray_is_refused_and_with_overwrite_replaced(tmp_path: Path, stray: str, made: str) -> None:
    export(tmp_path, OTHER)
    if made == "file":
        (tmp_path / stray).write_text("mine")
    else:
        (tmp_path / stray).mkdir()
        (tmp_path / stray / "mine").write_text("mine")
    before = tree(tmp_path)
    error = refusal(lambda: export(tmp_path, FILE, FOLDER))
    assert str(tmp_path / stray) in error.message
    assert tree(tmp_path) == before
    export(tmp_path, FILE, FOLDER, overwrite=True)
    assert_whole(tmp_path, FILE, FOLDER, OTHER)


def test_a_stray_where_the_weights_have_to_go(tmp_path: Path) -> None:
    name = export(tmp_path / "a", FILE).weights_path.name
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / name).write_text("mine")
    assert name in refusal(lambda: export(tmp_path / "b", FILE)).message
    assert tree(tmp_path / "b") == {name: b"mine"}


def test_a_damaged_manifest_is_refused_and_with_overwrite_replaced(tmp_path: Path) -> None:
    export(tmp_path, FILE)
    (tmp_path / "manifest.json").write_text("{")
    before = tree(tmp_path)
    refusal(lambda: export(tmp_path, FILE))
    assert tree(tmp_path) == before
    export(tmp_path, FILE, overwrite=True)
    assert_whole(tmp_path, FILE)


# One writer at a time


def test_a_second_writer_is_refused_while_the_first_is_open(tmp_path: Path) -> None:
    root = tmp_path / "a"
    with BundleWriter(root, head(), overwrite=False) as writer:
        artifacts = stage(writer, (FILE,), "1")
        before = tree(root)
        for overwrite in (False, True):
            error = refusal(lambda: export(root, OTHER, overwrite=overwrite))  # noqa: B023
            assert "another export" in error.message
        assert tree(root) == before
        writer.commit(artifacts)
    export(root, OTHER)
    assert_whole(root, FILE, OTHER)


def test_the_lock_holds_across_processes_and_ends_with_the_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from cloformer_deploy.bundle import BundleWriter; "
        "from cloformer_deploy.bundle.manifest import Manifest\n"
        "with BundleWriter(Path(sys.argv[1]), Manifest.model_validate_json(sys.argv[2]), overwrite=False) as writer:\n"
        "    (writer.staging / 'half').write_text('half'); print('ready', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path), head().model_dump_json()]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert "another export" in refusal(lambda: export(tmp_path, FILE)).message
        process.kill()
    assert any(name.endswith("/half") for name in tree(tmp_path))
    export(tmp_path, FILE)
    assert_whole(tmp_path, FILE)


def test_the_lock_is_freed_after_every_refusal(tmp_path: Path) -> None:
    export(tmp_path, FILE)
    refusal(lambda: export(tmp_path, OTHER, manifest=head("second")))
    (tmp_path / OTHER).write_text("stray")
    refusal(lambda: export(tmp_path, OTHER))
    (tmp_path / OTHER).unlink()
    export(tmp_path, OTHER)
    assert_whole(tmp_path, FILE, OTHER)


@pytest.mark.parametrize("content", [b"", b"{", b'["../../mine"]', b'["notes.txt", "/mine"]', b'["manifest.json"]'])
def test_a_stale_staging_folder_never_says_to_remove_what_is_elsewhere(tmp_path: Path, content: bytes) -> None:
    root = tmp_path / "a" / "b"
    export(root, FILE)
    for path in (tmp_path / "mine", root / "notes.txt"):
        path.write_text("mine")
    (root / ".staging-old").mkdir()
    (root / ".staging-old" / ".touched.json").write_bytes(content)
    failing(BundleWriter(root, head(), overwrite=False), RuntimeError())
    Bundle.open(root).verify()
    export(root, OTHER)
    for path in (tmp_path / "mine", root / "notes.txt"):
        assert path.read_text() == "mine"
        path.unlink()
    assert_whole(root, FILE, OTHER)


TENSOR = Interface(kind="tensor", batch=1)


def test_an_artifact_of_another_interface_is_not_replaced_unasked(tmp_path: Path) -> None:
    root = tmp_path / "a"
    export(root, FILE)
    other = Interface(kind="image", batch="dynamic")
    with BundleWriter(root, head(), overwrite=False) as writer:
        writer.check_replacing(FILE, TENSOR, {})
        writer.check_replacing(OTHER, other, {})
        with pytest.raises(BundleError, match="has --input tensor --batch 1, not image and dynamic"):
            writer.check_replacing(FILE, other, {})
    with BundleWriter(root, head(), overwrite=True) as writer:
        writer.check_replacing(FILE, other, {})


def test_an_artifact_with_other_options_is_not_replaced_unasked(tmp_path: Path) -> None:
    root = tmp_path / "a"
    with BundleWriter(root, head(), overwrite=False) as writer:
        (made,) = stage(writer, (FOLDER,), "1")
        writer.commit([made.model_copy(update={"options": {"ios": 17}})])
    with BundleWriter(root, head(), overwrite=False) as writer:
        writer.check_replacing(FOLDER, TENSOR, {"ios": 17})
        with pytest.raises(BundleError, match="was made with --ios 17, not --ios 18"):
            writer.check_replacing(FOLDER, TENSOR, {"ios": 18})
        with pytest.raises(BundleError, match="was made with --ios 17, not no options"):
            writer.check_replacing(FOLDER, TENSOR, {})
    with BundleWriter(root, head(), overwrite=True) as writer:
        writer.check_replacing(FOLDER, TENSOR, {"ios": 18})
