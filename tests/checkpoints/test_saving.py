"""Saving weights, and the tool that imports a checkpoint."""

import dataclasses
import json
import runpy
import sys
from pathlib import Path

import pytest
import safetensors.torch

from cloformer_deploy.checkpoints import load_checkpoint, save_checkpoint
from cloformer_deploy.model_zoo import DEFAULT, bundled_checkpoints
from tests.checkpoints.weights_files import LABELS, Weights, assert_same, load, safe, torch_zip

ROOT = Path(__file__).resolve().parents[2]


def test_saved_checkpoint_comes_back(xxs_weights: Weights, tmp_path: Path) -> None:
    labels = ("tench", "Größe", 'a "quoted" one', *LABELS[3:])
    first = dataclasses.replace(load(tmp_path, torch_zip(xxs_weights)), labels=labels)
    path = tmp_path / "saved.safetensors"
    digest = save_checkpoint(first, path)
    second = load_checkpoint(path)
    assert second == dataclasses.replace(first, name="saved", sha256=digest)
    assert_same(second.state_dict, first.state_dict)
    assert save_checkpoint(second, tmp_path / "again.safetensors") == digest
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["labels"]) == list(labels)
        assert file.metadata()["variant"] == "xxs"


def test_failed_save_leaves_what_stood_there(
    xxs_weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load(tmp_path, safe(xxs_weights))
    path = tmp_path / "saved.safetensors"
    path.write_text("before")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(checkpoint, path)
    assert path.read_text() == "before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["saved.safetensors", "weights.bin"]


def test_import_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    source = bundled_checkpoints()[DEFAULT]
    output = tmp_path / "copy.safetensors"
    labels = ROOT / "tools" / "imagenette_labels.txt"

    def run(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["import_checkpoint.py", *arguments])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(ROOT / "tools" / "import_checkpoint.py"), run_name="__main__")
        return caught.value.code

    assert run(str(source), str(output), "--labels", str(labels)) == 0
    assert output.read_bytes() == source.read_bytes()
    assert load_checkpoint(source).sha256 in capsys.readouterr().out
    short = tmp_path / "short.txt"
    short.write_text("tench\n")
    assert run(str(source), str(output), "--labels", str(short)) == 2
    assert "has 1 lines, the model 10 classes" in capsys.readouterr().err
    assert run(str(source), str(output), "--labels", str(tmp_path / "none.txt")) == 2
    assert "none.txt" in capsys.readouterr().err
