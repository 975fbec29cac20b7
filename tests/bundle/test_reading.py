"""Reading bundles: verify sees everything that is missing, changed, linked or unreadable."""

import os
from pathlib import Path
from typing import Any

import pytest

from cloformer_deploy.bundle import Bundle
from tests.bundle.small_bundles import FILE, FOLDER, export, refusal


def test_no_bundle(tmp_path: Path) -> None:
    assert "is not a bundle" in refusal(lambda: Bundle.open(tmp_path)).message
    assert "is not a bundle" in refusal(lambda: Bundle.open(tmp_path / "missing")).message
    (tmp_path / "file").write_text("")
    assert "cannot be read" in refusal(lambda: Bundle.open(tmp_path / "file")).message
    (tmp_path / "manifest.json").mkdir()
    assert "cannot be read" in refusal(lambda: Bundle.open(tmp_path)).message


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A good one, to be spoilt."""
    made = export(tmp_path / "bundle", FILE, FOLDER)
    made.verify()
    return made


PARTS = {"file": FILE, "folder": FOLDER, "in a folder": f"{FOLDER}/Data/weights/weight.bin", "weights": None}


def part(bundle: Bundle, name: str | None) -> Path:
    return bundle.root / name if name else bundle.weights_path


@pytest.mark.parametrize("name", PARTS.values(), ids=PARTS)
def test_verify_sees_what_is_missing(bundle: Bundle, name: str | None) -> None:
    path = part(bundle, name)
    path.rename(bundle.root / "elsewhere")
    error = refusal(bundle.verify)
    assert str(path if path.parent == bundle.root else bundle.root / FOLDER) in error.message
    assert ("missing" in error.message) == (path.parent == bundle.root)


@pytest.mark.parametrize("name", [FILE, PARTS["in a folder"], None])
def test_verify_sees_one_changed_byte(bundle: Bundle, name: str | None) -> None:
    path = part(bundle, name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "sha256 differs" in refusal(bundle.verify).message


def test_verify_sees_a_file_more_in_a_folder(bundle: Bundle) -> None:
    (bundle.root / FOLDER / "Data" / "extra").write_text("")
    assert "sha256 differs" in refusal(bundle.verify).message


@pytest.mark.parametrize("name", PARTS.values(), ids=PARTS)
def test_verify_refuses_links_even_to_the_same_content(bundle: Bundle, tmp_path: Path, name: str | None) -> None:
    path = part(bundle, name)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in refusal(bundle.verify).message


def test_verify_refuses_a_link_that_leads_nowhere(bundle: Bundle) -> None:
    (bundle.root / FILE).unlink()
    (bundle.root / FILE).symlink_to("nowhere")
    refusal(bundle.verify)
    (bundle.root / FOLDER / "Data" / "nowhere").symlink_to("nowhere")
    refusal(bundle.verify)


def test_verify_refuses_what_is_neither_file_nor_folder(bundle: Bundle) -> None:
    (bundle.root / FILE).unlink()
    os.mkfifo(bundle.root / FILE)
    refusal(bundle.verify)


def test_verify_names_what_cannot_be_read(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = Path.open

    def denied(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == FILE:
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", denied)
    error = refusal(bundle.verify)
    assert str(bundle.root / FILE) in error.message
    assert "Permission denied" in error.message
