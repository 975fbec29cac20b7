"""Builds weights files in every format, and loads them, for the tests."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.weights.checkpoints import Checkpoint, load_checkpoint

LABELS = tuple(f"class {index}" for index in range(10))
STEM = "patch_embed.conv1.conv.0.weight"
VARIANCE = "patch_embed.conv1.conv.1.running_var"
COUNTER = "patch_embed.conv1.conv.1.num_batches_tracked"

Weights = dict[str, Tensor]


def torch_zip(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def torch_legacy(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def plain_pickle(content: Any) -> bytes:
    return pickle.dumps(content, 2)


def safe(content: Weights, **metadata: str) -> bytes:
    return safetensors.torch.save(content, metadata)


CONTAINERS: dict[str, Callable[[Any], bytes]] = {"zip": torch_zip, "legacy": torch_legacy, "safetensors": safe}


def archive(data_pkl: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive like those of torch.save, around a given pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("archive/data.pkl", data_pkl)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return buffer.getvalue()


def refusal(tmp_path: Path, data: bytes, variant: str | None = None) -> CheckpointError:
    """Return the error of loading these bytes, which must name the file, have a hint and the exit code 2."""
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, variant)
    error = caught.value
    assert error.message.startswith(f"{path}: ")
    assert "\n" not in error.message
    assert len(error.message) < len(str(path)) + 400
    assert error.hint
    assert error.exit_code == 2
    return error


def load(tmp_path: Path, data: bytes, variant: str | None = None) -> Checkpoint:
    path = tmp_path / "weights.bin"
    path.write_bytes(data)
    return load_checkpoint(path, variant)


def assert_same(actual: Weights, expected: Weights) -> None:
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


TINY = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.zeros(2)}
