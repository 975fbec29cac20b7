"""Code in a weights file is never run, and files with harmless objects are read."""

import io
import os
import runpy
import struct
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.weights.weights_files import (
    CONTAINERS,
    STEM,
    TINY,
    Weights,
    archive,
    assert_same,
    load,
    plain_pickle,
    refusal,
    torch_legacy,
    torch_zip,
)

pytestmark = pytest.mark.integration


class Call:
    """An object that is pickled as a call of `function`."""

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
            "contains no tensors",
            id="inert setstate",
        ),
        pytest.param(
            NEW + b"N}" + text("__class__") + b"ccollections\nOrderedDict\ns\x86b", "TypeError", id="class change"
        ),
        pytest.param(NEW + b"N}" + text("__dict__") + b"Ns\x86b", "TypeError", id="no dict"),
        pytest.param(NAMESPACE + text("a") + b"\x85R", "TypeError", id="positional argument"),
        pytest.param(b"cargparse\nNamespace._get_kwargs\n", "asks for argparse.Namespace._get_kwargs", id="method"),
        pytest.param(b"cargparse\nFileType\n", "asks for argparse.FileType", id="neighbor"),
        pytest.param(b"cargparse\n_sys.modules\n", "asks for argparse._sys.modules", id="module"),
        pytest.param(NEW + b"ctorch\nSize\n\x85b", "contains no tensors|TypeError|ValueError", id="state of no kind"),
    ],
)
def test_namespace_tricks_are_inert(value: bytes, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, archive(b"\x80\x02}" + text("args") + value + b"s."))
    assert any(word in error.message for word in words.split("|")), error.message


class Shadowed(OrderedDict[str, Any]):
    """A dictionary that is pickled as an OrderedDict with attributes that hide its methods."""

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
