"""Malformed weights through the command line."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cloformer_deploy.weights.zoo import DEFAULT, resolve_weights
from tests.cli.refusals import Case, check, ids

pytestmark = pytest.mark.integration

STEM = "patch_embed.conv1.conv.0.weight"


class Code:
    """Unpickled, it makes a file: which would show in the folder's tree."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("code-ran"),)


Weights = dict[str, Tensor]


def torch_file(content: object) -> Callable[[Path], object]:
    return lambda folder: torch.save(content, folder / "bad.pth")


def raw(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "bad.pth").write_bytes(content)


def cut(share: float) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        whole = resolve_weights().read_bytes()
        (folder / "bad.pth").write_bytes(whole[: int(len(whole) * share)])

    return make


def weights(
    name: str, make: Callable[[Path], object], *told: str, more: tuple[str, ...] = (), fresh: bool = False
) -> Case:
    args = ("export", "--format", "onnx", "--output", "new/out", "--weights", "bad.pth", *more)
    return Case(name, args, ("bad.pth", *told), make=make, fresh=fresh)


WEIGHTS = [
    weights("text", raw(b"these are not weights\n"), "neither a PyTorch nor a safetensors file"),
    weights("empty", raw(b""), "empty"),
    weights("missing", lambda folder: None),
    weights("a-folder", lambda folder: (folder / "bad.pth").mkdir(), "none of model.safetensors"),
    weights("truncated", cut(0.9), "truncated or damaged"),
    weights("truncated-in-the-header", cut(0.0005), "truncated or damaged"),
    weights("pickled-code", torch_file(Code()), "no tensors", "never run", fresh=True),
    weights("pickled-code-legacy", raw(pickle.dumps(Code(), 2)), "not written by torch.save", fresh=True),
    weights("a-list", torch_file([torch.zeros(3)]), "list"),
    weights("no-tensors", torch_file({"epoch": 3}), "no tensors", "epoch"),
    weights("another-network", torch_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}), "conv1.weight"),
    weights(
        "of-another-variant",
        lambda folder: shutil.copy(resolve_weights(), folder / "bad.pth"),
        "xxs weights, not s",
        more=("--variant", "s"),
    ),
    Case("of-an-unknown-variant", ("export", "--weights", DEFAULT, "--variant", "xxl"), ("'xxl'", "xxs")),
    Case("unknown-name", ("export", "--weights", "xxs-imagenet"), ("'xxs-imagenet'", DEFAULT), fresh=True),
    Case("empty-name", ("export", "--weights", ""), ("''", DEFAULT)),
]


@pytest.mark.parametrize("case", ids(WEIGHTS))
def test_weights(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def filled(name: str, value: float) -> Callable[[Weights], Weights]:
    return lambda state: state | {name: torch.full_like(state[name], value)}


CHANGES: dict[str, tuple[Callable[[Weights], Weights], list[str]]] = {
    "nan": (filled(STEM, float("nan")), [STEM, "NaN"]),
    "infinite": (filled(STEM, float("inf")), [STEM, "infinite"]),
    "negative-variance": (filled("patch_embed.conv1.conv.1.running_var", -1.0), ["running_var", "negative"]),
    "missing-key": (lambda state: {key: state[key] for key in state if key != STEM}, [STEM, "missing 1"]),
    "unknown-key": (lambda state: state | {"head.gain": torch.ones(1)}, ["head.gain", "unknown 1"]),
    "shape": (lambda state: state | {STEM: torch.ones(1, 2, 3)}, [STEM, "(1, 2, 3)"]),
    "integers": (lambda state: state | {STEM: state[STEM].to(torch.int32)}, [STEM, "int32"]),
    "no-classes": (
        lambda state: state | {"head.weight": state["head.weight"][:0], "head.bias": state["head.bias"][:0]},
        ["head.weight"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights(change: str, xxs_weights: Weights, tmp_path: Path) -> None:
    edit, told = CHANGES[change]
    check(weights(change, torch_file(edit(xxs_weights)), *told), tmp_path)
