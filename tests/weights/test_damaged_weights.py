"""Files that are no weights, truncated or damaged are rejected."""

import io
import pickle
import warnings
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.weights import files as weights_file
from cloformer_deploy.weights.checkpoints import load_checkpoint
from tests.weights.weights_files import CONTAINERS, TINY, Weights, archive, load, refusal, safe, torch_zip

pytestmark = pytest.mark.integration


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "none.pth")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"this folder has none of model\.safetensors, "):
        load_checkpoint(tmp_path)


def test_not_a_regular_file() -> None:
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_checkpoint(Path("/dev/null"))


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "weights.pth"
    path.touch()
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)") as caught:
        load_checkpoint(path)
    assert "permissions" in caught.value.hint


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_file, "MAX_FILE_BYTES", 7)
    assert "8 bytes, more than the limit of 7" in refusal(tmp_path, b"12345678").message


def zip_without_pickle() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("readme.txt", "nothing here")
    return buffer.getvalue()


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(np.random.default_rng(0).bytes(5000), "neither a PyTorch nor a safetensors", id="random"),
        pytest.param(b"weights, honestly\n" * 9, "neither a PyTorch nor a safetensors", id="text"),
        pytest.param(b'{"key": {"a": 1}}', "neither a PyTorch nor a safetensors", id="json"),
        pytest.param(b"\x08\x07\x12\x07pytorch\x1a", "neither a PyTorch nor a safetensors", id="onnx"),
        pytest.param(b"\x1c\x00\x00\x00TFL3\x14\x00 \x00", "neither a PyTorch nor a safetensors", id="tflite"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "neither a PyTorch nor a safetensors", id="png"),
        pytest.param(b"\xff\xd8\xff\xe0\x00\x10JFIF", "neither a PyTorch nor a safetensors", id="jpeg"),
        pytest.param(b"cposix\nsystem\n(S'exit'\ntR.", "neither a PyTorch nor a safetensors", id="text pickle"),
        pytest.param(b"\x80", "neither a PyTorch nor a safetensors|truncated", id="one byte"),
        pytest.param(zip_without_pickle(), "not written by torch.save", id="zip"),
        pytest.param(archive(b"\x80\x02}."[:-1]), "truncated or damaged", id="unfinished pickle"),
        pytest.param(archive(b"\x80\x02}.", zipfile.ZIP_DEFLATED), "compressed", id="compressed"),
        pytest.param(torchscript(), "TorchScript archive", id="torchscript"),
        pytest.param(pickle.dumps({"a": 1}, 2), "not written by torch.save", id="plain pickle"),
        pytest.param(pickle.dumps({"a": 1}, 4), "not written by torch.save", id="pickle protocol 4"),
        pytest.param(archive(pickle.dumps({"a": 1}, 5)), "no tensors", id="zipped pickle protocol 5"),
    ],
)
def test_not_a_weights_file(data: bytes, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, data)
    assert any(word in error.message for word in words.split("|")), error.message


@pytest.mark.parametrize("container", CONTAINERS)
def test_truncated(container: str, xxs_weights: Weights, tmp_path: Path) -> None:
    data = CONTAINERS[container](xxs_weights)
    size = len(data)
    for cut in (9, 20, 100, 1000, 30_000, 60_000, size // 3, size // 2, size - 5000, size - 100, size - 23, size - 1):
        assert "truncated or damaged" in refusal(tmp_path, data[:cut]).message, cut


def test_damaged_weights_do_not_match_their_checksum(xxs_weights: Weights, tmp_path: Path) -> None:
    data = bytearray(torch_zip(xxs_weights))
    data[len(data) // 2] ^= 1
    error = refusal(tmp_path, bytes(data))
    assert "truncated or damaged (BadZipFile: Bad CRC-32" in error.message
    assert "checksum" in error.hint


TINY_FILES = {name: pack(TINY) for name, pack in CONTAINERS.items()} | {
    "timm": torch_zip({"args": Namespace(lr=1.0, data="x"), "state_dict": OrderedDict(TINY), "metric": None})
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_any_truncation_is_refused(scratch: Path, data: st.DataObject) -> None:
    whole = TINY_FILES[data.draw(st.sampled_from(sorted(TINY_FILES)))]
    refusal(scratch, whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_any_flip_is_refused(scratch: Path, data: st.DataObject) -> None:
    # The weights are incomplete, so a file that is still readable after the change is rejected for this reason.
    flipped = bytearray(TINY_FILES[data.draw(st.sampled_from(sorted(TINY_FILES)))])
    positions = st.integers(0, len(flipped) - 1)
    for position in data.draw(st.lists(positions, min_size=1, max_size=8)):
        flipped[position] = data.draw(st.integers(0, 255))
    refusal(scratch, bytes(flipped))


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 40_000), st.integers(1, 255))
def test_any_flip_in_a_real_header_is_read_or_refused(
    scratch: Path, xxs_weights: Weights, position: int, change: int
) -> None:
    flipped = bytearray(safe(xxs_weights))
    flipped[position] ^= change
    try:
        load(scratch, bytes(flipped))
    except CheckpointError:
        return
