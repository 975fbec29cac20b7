"""Atomic replacement of files, and errors that name their file."""

from pathlib import Path

import pytest

from cloformer_deploy.errors import BundleError, CheckFailedError, CloformerDeployError, DataError
from cloformer_deploy.system.files import naming, replaced


@pytest.mark.parametrize("before", [None, "before"])
def test_a_file_is_created_or_replaced(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "model.onnx"
    if before is not None:
        path.write_text(before)
    with replaced(path) as staged:
        assert (staged.parent, staged.suffix) == (tmp_path, ".onnx")
        staged.write_text("after")
        assert (path.read_text() if path.exists() else None) == before
    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_leaves_the_previous_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("before")
    with pytest.raises(error), replaced(path) as staged:  # noqa: PT012 - the error is raised after a write
        staged.write_text("half of")
        raise error
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_without_a_folder_is_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with replaced(Path("model.onnx")) as staged:
        staged.write_text("after")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_missing_folder_and_a_folder_in_the_way_are_errors(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"), replaced(tmp_path / "missing" / "file"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), replaced(tmp_path / "folder"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("kind", [BundleError, DataError, CheckFailedError])
def test_the_path_is_put_before_the_message(kind: type[CloformerDeployError]) -> None:
    original = kind("it is empty", "export it again")
    with pytest.raises(kind) as caught, naming(Path("a/b.onnx")):
        raise original
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.hint) == ("a/b.onnx: it is empty", "export it again")
    assert str(caught.value) == caught.value.message
    assert caught.value.__cause__ is original


def test_the_cause_is_kept() -> None:
    cause = ValueError("byte 7")
    with pytest.raises(DataError) as caught, naming("b.png"):
        raise DataError("it is damaged", "repair it") from cause
    assert caught.value.__cause__ is cause


def test_other_errors_pass_unchanged() -> None:
    original = ValueError("a bug")
    with pytest.raises(ValueError, match=r"^a bug$") as caught, naming("b.png"):
        raise original
    assert caught.value is original
