"""Exports that fail leave everything as it was."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from cloformer_deploy.bundle import BundleWriter
from tests.bundle.small_bundles import FILE, FOLDER, OTHER, assert_whole, export, failing, head, refusal, stage, tree


@pytest.mark.parametrize("error", [RuntimeError("converter"), KeyboardInterrupt()])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_a_bundle_as_it_was(tmp_path: Path, error: BaseException, overwrite: bool) -> None:
    export(tmp_path, FILE, FOLDER)
    before = tree(tmp_path)
    failing(BundleWriter(tmp_path, head(), overwrite=overwrite), error)
    assert tree(tmp_path) == before
    export(tmp_path, OTHER)
    assert_whole(tmp_path, FILE, FOLDER, OTHER)


def test_a_failure_removes_the_folders_it_made_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    failing(BundleWriter(tmp_path / "mine" / "a" / "b", head(), overwrite=False), RuntimeError())
    assert tree(tmp_path) == {"mine": None}


def test_what_others_put_beside_an_unfinished_export_is_kept(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "a" / "b", head(), overwrite=False):
        (tmp_path / "a" / "notes.txt").write_text("mine")
    assert tree(tmp_path) == {"a": None, "a/notes.txt": b"mine"}


def test_without_a_commit_nothing_is_left(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "a", head(), overwrite=False) as writer:
        stage(writer, (FILE, FOLDER), "1")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("existing", ["output", "parent"])
def test_the_output_is_no_folder(tmp_path: Path, existing: str) -> None:
    (tmp_path / "a").write_text("mine")
    root = tmp_path / "a" / ("b" if existing == "parent" else "")
    assert str(root) in refusal(lambda: export(root, FILE)).message
    assert tree(tmp_path) == {"a": b"mine"}


def test_the_output_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    refusal(lambda: export(tmp_path / "a", FILE))


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_the_parent_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "Permission denied" in refusal(lambda: export(tmp_path / "a" / "b", FILE)).message
    finally:
        tmp_path.chmod(0o700)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("function", ["mkdir", "mkdtemp"])
def test_the_system_lets_us_make_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """As for a read-only parent or a full disk; also for root."""

    def denied(path: object = "", *arguments: object, **options: object) -> None:
        if function == "mkdtemp" or Path(str(path)).name == "b":
            raise PermissionError(13, "Permission denied")
        real(path, *arguments, **options)

    real: Any = os.mkdir
    with monkeypatch.context() as patch:
        patch.setattr(os if function == "mkdir" else tempfile, function, denied)
        assert "Permission denied" in refusal(lambda: export(tmp_path / "a" / "b", FILE)).message
    assert tree(tmp_path) == {}


def test_a_full_disk_at_the_manifest_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(tmp_path, FILE, FOLDER)
    before = tree(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "No space left" in refusal(lambda: export(tmp_path, FILE, FOLDER, content="2")).message
    assert tree(tmp_path) == before
