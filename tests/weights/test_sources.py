"""Folders and shards are read like files; what is missing or outside the folder is refused."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.weights.checkpoints import load_checkpoint
from tests.tiny import tiny_checkpoint
from tests.weights.weights_files import Weights, assert_same


@pytest.fixture(scope="module")
def weights() -> Weights:
    return dict(tiny_checkpoint().state_dict)


def shard(folder: Path, weights: Weights, suffix: str = "safetensors") -> Path:
    """Write two shards and their index."""
    names = list(weights)
    listing: dict[str, str] = {}
    for index, part in enumerate((names[:50], names[50:])):
        file = f"model-{index}.{suffix}"
        content = {name: weights[name] for name in part}
        if suffix == "safetensors":
            safetensors.torch.save_file(content, folder / file)
        else:
            torch.save(content, folder / file)
        listing |= dict.fromkeys(part, file)
    stem = "model.safetensors" if suffix == "safetensors" else "pytorch_model.bin"
    path = folder / f"{stem}.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listing}))
    return path


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_with_one_file(name: str, weights: Weights, tmp_path: Path) -> None:
    if name.endswith("bin"):
        torch.save(weights, tmp_path / name)
    else:
        safetensors.torch.save_file(weights, tmp_path / name)
    found = load_checkpoint(tmp_path)
    assert_same(found.state_dict, weights)
    assert found.name == tmp_path.name
    assert found.sha256 == load_checkpoint(tmp_path / name).sha256


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards(suffix: str, weights: Weights, tmp_path: Path) -> None:
    index = shard(tmp_path, weights, suffix)
    for path in (tmp_path, index):
        assert_same(load_checkpoint(path).state_dict, weights)


def test_the_configuration_beside_the_weights_is_obeyed(weights: Weights, tmp_path: Path) -> None:
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["X"], "window_sizes": [2, 2, 1, 1]}))
    assert load_checkpoint(tmp_path).architecture["window_sizes"] == [2, 2, 1, 1]
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is no JSON"):
        load_checkpoint(tmp_path)


def test_a_distributed_checkpoint_needs_conversion(tmp_path: Path) -> None:
    (tmp_path / ".metadata").touch()
    with pytest.raises(CheckpointError, match="distributed checkpoint") as caught:
        load_checkpoint(tmp_path)
    assert "dcp_to_torch" in caught.value.hint


@pytest.mark.parametrize("outside", ["../model-0.safetensors", "/etc/passwd", "a/b.safetensors", ".."])
def test_shards_outside_the_folder_are_refused(outside: str, weights: Weights, tmp_path: Path) -> None:
    index = shard(tmp_path, weights)
    content = json.loads(index.read_text())
    content["weight_map"][next(iter(content["weight_map"]))] = outside
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="outside its folder"):
        load_checkpoint(tmp_path)


def test_incomplete_shards_are_refused(weights: Weights, tmp_path: Path) -> None:
    index = shard(tmp_path, weights)
    content = json.loads(index.read_text())
    content["weight_map"]["norm.scale"] = "model-0.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"model-0\.safetensors lacks norm\.scale"):
        load_checkpoint(tmp_path)
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"1 of the 2 shards .* missing: model-1\.safetensors"):
        load_checkpoint(tmp_path)
