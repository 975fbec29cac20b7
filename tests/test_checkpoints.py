"""Reading weights: every container, wrapper, dtype and variant; every refusal; and that no code in a file runs."""

import dataclasses
import io
import json
import os
import pickle
import runpy
import struct
import sys
import warnings
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cloformer_deploy import weights_file
from cloformer_deploy.architecture import VARIANTS, create_model
from cloformer_deploy.checkpoints import WRAPPER_KEYS, Checkpoint, build_model, load_checkpoint, save_checkpoint
from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.model_zoo import DEFAULT, bundled_checkpoints

ROOT = Path(__file__).resolve().parents[1]
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
    """A zip file as torch.save writes it, around a pickle of our own making."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("archive/data.pkl", data_pkl)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return buffer.getvalue()


def refusal(tmp_path: Path, data: bytes, variant: str | None = None) -> CheckpointError:
    """The error of loading these bytes; every refusal names the file, has a hint and exits with 2."""
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


# What is read


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(container: str, xxs_weights: Weights, tmp_path: Path) -> None:
    checkpoint = load(tmp_path, CONTAINERS[container](xxs_weights))
    assert (checkpoint.name, checkpoint.variant, checkpoint.num_classes) == ("weights", "xxs", 10)
    assert checkpoint.labels is None
    assert len(checkpoint.sha256) == 64
    assert_same(checkpoint.state_dict, xxs_weights)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", WRAPPER_KEYS)
def test_wrappers_and_prefix(wrapper: str, prefix: str, xxs_weights: Weights, tmp_path: Path) -> None:
    state = OrderedDict((prefix + name, tensor) for name, tensor in xxs_weights.items())
    content = {"epoch": 3, "arch": "cloformer", "optimizer": {"state": {0: {"step": 1.0}}}, wrapper: state}
    assert_same(load(tmp_path, torch_zip(content)).state_dict, xxs_weights)


def test_averaged_weights_are_preferred(xxs_weights: Weights, tmp_path: Path) -> None:
    plain = {**xxs_weights, "head.bias": xxs_weights["head.bias"] + 1}
    content = {"model": plain, "state_dict": plain, "state_dict_ema": xxs_weights}
    assert_same(load(tmp_path, torch_zip(content)).state_dict, xxs_weights)
    assert_same(load(tmp_path, torch_zip({**content, "state_dict_ema": None})).state_dict, plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("container", ["zip", "safetensors"])
def test_dtypes_become_float32(dtype: torch.dtype, container: str, xxs_weights: Weights, tmp_path: Path) -> None:
    converted = {name: tensor.to(dtype) for name, tensor in xxs_weights.items()}
    checkpoint = load(tmp_path, CONTAINERS[container](converted))
    expected = {name: converted[name].to(tensor.dtype) for name, tensor in xxs_weights.items()}
    assert_same(checkpoint.state_dict, expected)


def test_layouts_become_contiguous(xxs_weights: Weights, tmp_path: Path) -> None:
    turned = {
        name: tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in xxs_weights.items()
    }
    checkpoint = load(tmp_path, torch_zip(turned))
    assert_same(checkpoint.state_dict, xxs_weights)
    assert all(tensor.is_contiguous() for tensor in checkpoint.state_dict.values())


def test_counters_may_be_absent(xxs_weights: Weights, tmp_path: Path) -> None:
    without = {name: tensor for name, tensor in xxs_weights.items() if not name.endswith("num_batches_tracked")}
    assert_same(load(tmp_path, torch_zip(without)).state_dict, xxs_weights)


def test_counters_are_kept(xxs_weights: Weights, tmp_path: Path) -> None:
    counted = {**xxs_weights, COUNTER: torch.tensor(2**40 + 1)}
    assert_same(load(tmp_path, torch_zip(counted)).state_dict, counted)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_told(variant: str, tmp_path: Path) -> None:
    weights = create_model(variant, 3).state_dict()
    assert load(tmp_path, safe(weights)).variant == variant
    checkpoint = load(tmp_path, safe(weights), variant)
    assert (checkpoint.variant, checkpoint.num_classes) == (variant, 3)


def test_source_of_the_bundled_checkpoint(shared: Path) -> None:
    source = load_checkpoint(shared / "checkpoints" / "cloformer_xxs_imagenette.pth")
    assert_same(load_checkpoint(bundled_checkpoints()[DEFAULT]).state_dict, source.state_dict)


def test_files_without_checksums_are_read(xxs_weights: Weights, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        data = torch_zip(xxs_weights)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(load(tmp_path, data).state_dict, xxs_weights)


# The model


def test_build_model(xxs_weights: Weights, tmp_path: Path) -> None:
    checkpoint = load(tmp_path, safe(xxs_weights))
    generator = torch.get_rng_state()
    model = build_model(checkpoint)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert_same(model.state_dict(), xxs_weights)
    with torch.no_grad():
        model.head.bias.zero_()
    assert_same(checkpoint.state_dict, xxs_weights)


# What is written


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
    assert "the number of labels (1) is not that of the classes (10)" in capsys.readouterr().err
    assert run(str(source), str(output), "--labels", str(tmp_path / "none.txt")) == 2
    assert "none.txt" in capsys.readouterr().err


# Refusals: the file


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "none.pth")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a directory"):
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
    assert "8 bytes are more than the 7" in refusal(tmp_path, b"12345678").message


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
        pytest.param(pickle.dumps({"a": 1}, 2), "truncated or damaged", id="plain pickle"),
        pytest.param(pickle.dumps({"a": 1}, 4), "protocol 4", id="pickle protocol 4"),
        pytest.param(archive(pickle.dumps({"a": 1}, 5)), "protocol 5", id="zipped pickle protocol 5"),
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


TINY = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.zeros(2)}
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
    # Incomplete weights: what survives the flips is refused for that, whatever it has become.
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


# Refusals: code


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


CALLS: dict[str, tuple[Callable[..., object], str]] = {
    "posix.system": (os.system, "touch MARK"),
    "exec": (exec, "open('MARK', 'w')"),
    "eval": (eval, "open('MARK', 'w')"),
    "io.open": (open, "MARK"),
    "torch.serialization.load": (torch.load, "MARK"),
    "tests.anything": (runpy.run_path, "MARK"),
}


@pytest.mark.parametrize("place", ["wrapper", "value", "argument", "key"])
@pytest.mark.parametrize("container", ["zip", "legacy", "plain pickle"])
@pytest.mark.parametrize("name", CALLS)
def test_code_is_never_run(
    name: str, container: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    function, argument = CALLS[name]
    payload = Call(function, argument.replace("MARK", str(mark)))
    content = {
        "wrapper": {"model": payload},
        "value": {"head.weight": payload},
        "argument": {"args": Namespace(a=payload), "model": TINY},
        "key": OrderedDict([(payload, 1)]),
    }[place]
    pack = plain_pickle if container == "plain pickle" else CONTAINERS[container]
    error = refusal(tmp_path, pack(content))
    named = f"{function.__module__}.{function.__qualname__}".removeprefix("builtins.")
    assert f"asks for {named}, and code in a weights file is never run" in error.message
    assert "torch.save(model.state_dict()" in error.hint
    assert not mark.exists()


def test_pickled_model_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, torch_zip({"model": nn.Linear(2, 2)}))
    assert "asks for torch.nn.modules.linear.Linear" in error.message


def test_namespace_of_a_training_script_is_read(xxs_weights: Weights, tmp_path: Path) -> None:
    arguments = Namespace(lr=1e-3, model="cloformer_xxs", betas=(0.9, 0.99), nested=Namespace(a=[1, None]))
    allowed = torch.serialization.get_safe_globals()
    for pack in (torch_zip, torch_legacy):
        checkpoint = load(tmp_path, pack({"args": arguments, "epoch": 1, "state_dict": xxs_weights}))
        assert_same(checkpoint.state_dict, xxs_weights)
    assert torch.serialization.get_safe_globals() == allowed


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


NAMESPACE = b"cargparse\nNamespace\n"
NEW = NAMESPACE + b")\x81"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param(NEW + b"}" + text("__setstate__") + b"cposix\nsystem\nsb", "asks for posix.system", id="setstate"),
        pytest.param(
            NEW + b"}" + text("__setstate__") + b"ccollections\nOrderedDict\nsb}b",
            "holds no tensors",
            id="inert setstate",
        ),
        pytest.param(
            NEW + b"N}" + text("__class__") + b"ccollections\nOrderedDict\ns\x86b", "TypeError", id="class change"
        ),
        pytest.param(NEW + b"N}" + text("__dict__") + b"Ns\x86b", "TypeError", id="no dict"),
        pytest.param(NAMESPACE + text("a") + b"\x85R", "TypeError", id="positional argument"),
        pytest.param(b"cargparse\nNamespace._get_kwargs\n", "asks for argparse.Namespace._get_kwargs", id="method"),
        pytest.param(b"cargparse\nFileType\n", "asks for argparse.FileType", id="neighbour"),
        pytest.param(b"cargparse\n_sys.modules\n", "asks for argparse._sys.modules", id="module"),
        pytest.param(NEW + b"ctorch\nSize\n\x85b", "holds no tensors|TypeError|ValueError", id="state of no kind"),
    ],
)
def test_namespace_tricks_are_inert(value: bytes, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, archive(b"\x80\x02}" + text("args") + value + b"s."))
    assert any(word in error.message for word in words.split("|")), error.message


class Shadowed(OrderedDict[str, Any]):
    """Pickles as an OrderedDict whose attributes stand before its methods."""

    def __reduce__(self) -> Any:
        return OrderedDict, (), dict.fromkeys(("items", "keys", "values", "get"), torch.Size), None, iter(self.items())


def test_attributes_do_not_hide_methods(xxs_weights: Weights, tmp_path: Path) -> None:
    state = Shadowed(xxs_weights)
    assert torch.load(io.BytesIO(torch_zip(state)), weights_only=True).items is torch.Size
    assert_same(load(tmp_path, torch_zip(state)).state_dict, xxs_weights)
    assert_same(load(tmp_path, torch_zip(Shadowed(model=state))).state_dict, xxs_weights)
    hidden = nn.Parameter(torch.full_like(xxs_weights[STEM], float("nan")))
    vars(hidden).update(dict.fromkeys(("to", "clone", "detach"), torch.Size))
    data = torch_zip({**xxs_weights, STEM: hidden})
    assert torch.load(io.BytesIO(data), weights_only=True)[STEM].clone is torch.Size
    assert f"{STEM} has 432 NaN" in refusal(tmp_path, data).message


# Refusals: the content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param([torch.zeros(1)], "holds a list, not a dictionary of tensors", id="list"),
        pytest.param(torch.zeros(3), "holds a Tensor, not a dictionary of tensors", id="tensor"),
        pytest.param(Namespace(model=1), "holds a Namespace, not a dictionary", id="namespace"),
        pytest.param({}, "holds no tensors", id="nothing"),
        pytest.param({"model": {}}, "holds no tensors", id="nothing wrapped"),
        pytest.param(
            {"net": TINY, "epoch": 3}, "state_dict_ema, model_ema, state_dict, model (keys: net, epoch)", id="wrapper"
        ),
        pytest.param({"epoch": 3, **TINY}, "epoch is of type int, not a tensor", id="number among tensors"),
        pytest.param({1: torch.zeros(1)}, "not every key", id="key"),
        pytest.param(
            {"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, "none of its 2 tensors", id="other net"
        ),
        pytest.param({"\x1b[2J" + "a" * 200: torch.zeros(1)}, "'\\x1b[2Jaaaa", id="escape sequence"),
    ],
)
def test_not_a_state_dict(content: Any, words: str, tmp_path: Path) -> None:
    assert words in refusal(tmp_path, torch_zip(content)).message


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: tensor for key, tensor in weights.items() if key != name}


def with_tensor(name: str, make: Callable[[Tensor], Any]) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, name: make(weights.get(name, torch.zeros(1)))}


def poked(*values: float) -> Callable[[Tensor], Tensor]:
    def poke(tensor: Tensor) -> Tensor:
        changed = tensor.clone().flatten()
        changed[: len(values)] = torch.tensor(values)
        return changed.reshape(tensor.shape)

    return poke


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(without("norm.bias"), "not those of xxs: missing 1 of 351 (norm.bias)", id="missing"),
        pytest.param(
            lambda weights: {key: value for key, value in weights.items() if not key.startswith("head.")},
            "not those of xxs: missing 2 of 351 (head.weight, head.bias)",
            id="no head",
        ),
        pytest.param(
            with_tensor("head2.bias", torch.zeros_like), "not those of xxs: unknown 1 (head2.bias)", id="extra"
        ),
        pytest.param(
            lambda weights: {key.replace("head.", "fc."): value for key, value in weights.items()},
            "missing 2 of 351 (head.weight, head.bias), unknown 2 (fc.bias, fc.weight)",
            id="renamed",
        ),
        pytest.param(
            with_tensor(STEM, lambda tensor: torch.zeros(16, 4, 3, 3)),
            f"{STEM} has shape (16, 4, 3, 3), not (16, 3, 3, 3) as in xxs",
            id="shape",
        ),
        pytest.param(
            with_tensor("head.bias", lambda tensor: torch.zeros(9)),
            "head.bias has shape (9,), not (10,)",
            id="head shape",
        ),
        pytest.param(
            with_tensor("head.weight", lambda tensor: torch.tensor(1.0)),
            "head.weight has shape (), not (1, 256)",
            id="0-d",
        ),
        pytest.param(
            lambda weights: {**weights, "head.weight": torch.zeros(0, 256), "head.bias": torch.zeros(0)},
            "head.weight has 0 rows",
            id="no classes",
        ),
        pytest.param(with_tensor(STEM, poked(NAN, NAN, INF)), f"{STEM} has 2 NaN and 1 infinite values", id="nan"),
        pytest.param(with_tensor(VARIANCE, poked(-INF)), f"{VARIANCE} has 0 NaN and 1 infinite values", id="infinite"),
        pytest.param(
            with_tensor(STEM, lambda tensor: poked(0.0)(tensor).double() + 1e300),
            f"{STEM} has 0 NaN and 432 infinite values (as float32) of 432",
            id="beyond float32",
        ),
        pytest.param(with_tensor(VARIANCE, poked(-1e-3)), f"{VARIANCE} has 1 negative values", id="variance"),
        pytest.param(with_tensor(STEM, Tensor.long), f"{STEM} is int64, not float32", id="int64"),
        pytest.param(with_tensor(STEM, Tensor.bool), f"{STEM} is bool, not float32", id="bool"),
        pytest.param(with_tensor(STEM, lambda tensor: tensor + 0j), f"{STEM} is complex64", id="complex"),
        pytest.param(with_tensor(STEM, lambda tensor: tensor.to(torch.float8_e5m2)), "is float8_e5m2", id="float8"),
        pytest.param(with_tensor(COUNTER, Tensor.bool), f"{COUNTER} is bool", id="counter"),
        pytest.param(with_tensor(STEM, Tensor.to_sparse), f"{STEM} is sparse, quantised", id="sparse"),
        pytest.param(with_tensor(STEM, lambda tensor: tensor.to("meta")), f"{STEM} is sparse, quantised", id="meta"),
        pytest.param(
            with_tensor("head.weight", lambda tensor: torch.zeros(1, 1).expand(10**10, 256)),
            f"head.weight is {10**10 * 1024} bytes long in a file of",
            id="expanded",
        ),
        pytest.param(with_tensor(STEM, lambda tensor: None), f"{STEM} is of type NoneType, not a tensor", id="none"),
    ],
)
def test_weights_of_no_variant(
    change: Callable[[Weights], Weights], words: str, xxs_weights: Weights, tmp_path: Path
) -> None:
    error = refusal(tmp_path, torch_zip(change(xxs_weights)))
    assert words in error.message, error.message


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_quantised_weights(xxs_weights: Weights, tmp_path: Path) -> None:
    quantised = torch.quantize_per_tensor(xxs_weights[STEM], 0.1, 0, torch.qint8)
    assert "sparse, quantised" in refusal(tmp_path, torch_zip({**xxs_weights, STEM: quantised})).message


def test_wrong_variant(xxs_weights: Weights, tmp_path: Path) -> None:
    error = refusal(tmp_path, safe(xxs_weights), "s")
    assert "these are xxs weights, not s" in error.message
    assert "--variant xxs" in error.hint


def test_refusals_are_told_against_the_given_variant(xxs_weights: Weights, tmp_path: Path) -> None:
    changed = without("norm.bias")(xxs_weights)
    assert "the tensors are not those of global: missing 1 of 255 (norm.bias), unknown 96 (layers." in (
        refusal(tmp_path, safe(changed), "global").message
    )


def test_unknown_variant(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no variant 'xxl'") as caught:
        load_checkpoint(tmp_path / "any.pth", "xxl")
    assert "xxs, xs, s, global, local" in caught.value.hint


# Labels


def test_labels_are_read(xxs_weights: Weights, tmp_path: Path) -> None:
    assert load(tmp_path, safe(xxs_weights, labels=json.dumps(LABELS))).labels == LABELS


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (json.dumps(LABELS[:9]), "the number of labels (9) is not that of the classes (10)"),
        ("[]", "the number of labels (0) is not that of the classes (10)"),
        ("tench, church", "not a JSON list of printable texts (tench, church)"),
        (json.dumps(dict.fromkeys(LABELS)), "not a JSON list of printable texts"),
        (json.dumps([1] * 10), "not a JSON list of printable texts"),
        (json.dumps(["\x1b[2J"] * 10), "not a JSON list of printable texts"),
        ("[" * 100_000, "not a JSON list of printable texts"),
    ],
)
def test_labels_that_do_not_fit(labels: str, words: str, xxs_weights: Weights, tmp_path: Path) -> None:
    error = refusal(tmp_path, safe(xxs_weights, labels=labels))
    assert words in error.message
    assert "label" in error.hint or "text" in error.hint
