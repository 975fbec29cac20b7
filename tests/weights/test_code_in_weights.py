"""Code in a weights file is never run, whatever the pickle's protocol, and files with foreign objects are read."""

import collections
import datetime
import io
import os
import pickle
import runpy
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.weights.weights_files import (
    CONTAINERS,
    STEM,
    Weights,
    archive,
    assert_same,
    load,
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


class State:
    """An object whose state calls a function when it is set."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return Call, (print,), {"state": Call(*self.call)}


CALLS: dict[str, tuple[Callable[..., object], str]] = {
    "posix.system": (os.system, "touch MARK"),
    "exec": (exec, "open('MARK', 'w')"),
    "eval": (eval, "open('MARK', 'w')"),
    "io.open": (open, "MARK"),
    "torch.serialization.load": (torch.load, "MARK"),
    "runpy": (runpy.run_path, "MARK"),
}


@pytest.mark.parametrize("kind", [Call, State])
@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize("name", CALLS)
def test_code_is_never_run(
    name: str, container: str, kind: Callable[..., object], xxs_weights: Weights, tmp_path: Path
) -> None:
    """The weights beside it are read."""
    mark = tmp_path / "mark"
    function, argument = CALLS[name]
    payload = kind(function, argument.replace("MARK", str(mark)))
    content = {"args": Namespace(a=payload), "keys": OrderedDict([(payload, 1)]), "model": xxs_weights, "last": payload}
    assert_same(load(tmp_path, CONTAINERS[container](content)).state_dict, xxs_weights)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", CALLS)
def test_code_is_run_in_no_protocol(name: str, protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    function, argument = CALLS[name]
    payload = Call(function, argument.replace("MARK", str(mark)))
    error = refusal(tmp_path, archive(pickle.dumps({STEM: payload, "args": [payload]}, protocol)))
    assert f"{STEM} is of type {function.__module__}.{function.__qualname__}, not a tensor" in error.message
    assert not mark.exists()


def test_a_whole_module_is_read_and_its_code_is_not_run(xxs_weights: Weights, tmp_path: Path) -> None:
    from cloformer_deploy.networks.cloformer import create_model

    model = create_model("xxs", 10)
    model.load_state_dict(xxs_weights)
    checkpoint = load(tmp_path, torch_zip({"epoch": 1, "ema": model}))
    assert_same(checkpoint.state_dict, xxs_weights)
    assert any("whole module" in note for note in checkpoint.notes)
    error = refusal(tmp_path, torch_zip({"model": nn.Linear(2, 2)}))
    assert "tensors in the file belongs to CloFormer" in error.message


FOREIGN = {
    "namespace": Namespace(lr=1e-3, model="cloformer_xxs", betas=(0.9, 0.99), nested=Namespace(a=[1, None])),
    "path": PurePosixPath("runs/1"),
    "time": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "numpy scalar": np.float64(0.5),
    "numpy array": np.arange(6.0),
    "defaultdict": defaultdict(list, a=[1]),
    "counter": collections.Counter("abca"),
    "set": {1, 2},
    "generator": torch.get_rng_state(),
    "complex": 1 + 2j,
    "class": nn.Linear,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_objects_are_read_over(name: str, xxs_weights: Weights, tmp_path: Path) -> None:
    for pack in (torch_zip, torch_legacy):
        content = {"args": FOREIGN[name], "epoch": 1, "state_dict": xxs_weights}
        assert_same(load(tmp_path, pack(content)).state_dict, xxs_weights)


def test_newer_protocols_are_read(xxs_weights: Weights, tmp_path: Path) -> None:
    for protocol in (3, 4, 5):
        buffer = io.BytesIO()
        torch.save({"model": xxs_weights, "path": PurePosixPath("a")}, buffer, pickle_protocol=protocol)
        assert_same(load(tmp_path, buffer.getvalue()).state_dict, xxs_weights)


class Shadowed(OrderedDict[str, Any]):
    """A dictionary that is pickled as an OrderedDict with attributes that hide its methods."""

    def __reduce__(self) -> Any:
        return OrderedDict, (), dict.fromkeys(("items", "keys", "values", "get"), torch.Size), None, iter(self.items())


def test_attributes_do_not_hide_methods(xxs_weights: Weights, tmp_path: Path) -> None:
    state = Shadowed(xxs_weights)
    assert torch.load(io.BytesIO(torch_zip(state)), weights_only=True).items is torch.Size
    assert_same(load(tmp_path, torch_zip(state)).state_dict, xxs_weights)
    assert_same(load(tmp_path, torch_zip(Shadowed(model=state))).state_dict, xxs_weights)
