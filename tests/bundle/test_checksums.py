"""Checksums and sizes of files and folders."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.bundle import digest, size_bytes
from tests.bundle.small_bundles import sha256, tree, write


def shell_digest(folder: Path) -> str:
    """As anyone can check it: sha256sum of the listing that sha256sum gives of all files."""
    command = (
        "find . -type f | sed 's|^./||' | LC_ALL=C sort | tr '\\n' '\\0' | xargs -0r sha256sum | sha256sum | cut -c-64"
    )
    return subprocess.run(["sh", "-c", command], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_digest_of_a_folder_is_that_of_its_sha256sum_listing(tmp_path: Path) -> None:
    # As paths, a/b comes before a-b; as texts, after it.
    for name in ("Manifest.json", "a/b", "a-b", "a.b", "a/.hidden", "a/c/d e", "B", "ä", "empty"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name * (name != "empty"))
    (tmp_path / "no files").mkdir()
    assert digest(tmp_path) == shell_digest(tmp_path)
    (tmp_path / os.fsdecode(b"\xff")).write_text("a name that is not UTF-8")
    assert digest(tmp_path) == shell_digest(tmp_path)


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    assert digest(write(tmp_path / "a", "content")) == sha256(b"content")


def test_the_digest_of_a_folder_sees_contents_and_names(tmp_path: Path) -> None:
    folder = write(tmp_path / "a.mlpackage", "1")
    before = digest(folder)
    (folder / "Manifest.json").rename(folder / "manifest.json")
    renamed = digest(folder)
    (folder / "manifest.json").rename(folder / "Manifest.json")
    assert digest(folder) == before
    (folder / "Data" / "model.mlmodel").write_text("2")
    assert len({before, renamed, digest(folder)}) == 3


def test_sizes_are_of_all_files(tmp_path: Path) -> None:
    assert size_bytes(write(tmp_path / "a", "12345")) == 5
    folder = write(tmp_path / "a.mlpackage", "1")
    assert size_bytes(folder) == sum(len(content) for content in tree(folder).values() if content)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_contents_tell_digests_apart(first: bytes, second: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in "ab"]
        for path, content in zip(paths, (first, second), strict=True):
            path.write_bytes(content)
        assert (digest(paths[0]) == digest(paths[1])) == (first == second)
