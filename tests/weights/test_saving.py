"""Saving weights: they can be loaded again, equal weights give equal bytes, and files are replaced atomically."""

import dataclasses
import json
from pathlib import Path

import pytest
import safetensors.torch

from cloformer_deploy.weights.checkpoints import load_checkpoint, save_checkpoint
from tests.weights.weights_files import LABELS, Weights, assert_same, load, safe, torch_zip

pytestmark = pytest.mark.integration


def test_saved_checkpoint_comes_back(xxs_weights: Weights, tmp_path: Path) -> None:
    labels = ("tench", "Größe", 'a "quoted" one', *LABELS[3:])
    first = dataclasses.replace(load(tmp_path, safe(xxs_weights, variant="xxs")), labels=labels)
    assert first.assumed == ()
    path = tmp_path / "saved.safetensors"
    digest = save_checkpoint(first, path)
    second = load_checkpoint(path)
    assert second == dataclasses.replace(first, name="saved", sha256=digest)
    assert_same(second.state_dict, first.state_dict)
    assert save_checkpoint(second, tmp_path / "again.safetensors") == digest
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["labels"]) == list(labels)
        assert file.metadata()["variant"] == "xxs"
        assert json.loads(file.metadata()["architecture"]) == first.architecture


def test_an_assumed_configuration_is_not_stated(xxs_weights: Weights, tmp_path: Path) -> None:
    first = load(tmp_path, torch_zip(xxs_weights))
    assert [sentence.split()[0] for sentence in first.assumed] == ["num_heads", "window_sizes"]
    path = tmp_path / "saved.safetensors"
    save_checkpoint(first, path)
    assert load_checkpoint(path).assumed == first.assumed
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata().keys().isdisjoint({"variant", "architecture"})


def test_a_failed_save_leaves_the_previous_file(
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
