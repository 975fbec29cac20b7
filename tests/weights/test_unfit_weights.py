"""Readable files with unusable content: tensors that belong to no variant, and labels that do not fit."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.weights.checkpoints import load_checkpoint
from tests.weights.weights_files import (
    COUNTER,
    LABELS,
    STEM,
    TINY,
    VARIANCE,
    Weights,
    load,
    refusal,
    safe,
    torch_zip,
)

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param([torch.zeros(1)], "contains no tensors", id="list"),
        pytest.param(torch.zeros(3), "contains no tensors", id="tensor"),
        pytest.param(Namespace(model=1), "contains no tensors", id="namespace"),
        pytest.param({}, "contains no tensors", id="nothing"),
        pytest.param({"model": {}}, "contains no tensors", id="nothing wrapped"),
        pytest.param({"net": TINY, "epoch": 3}, "(net.head.weight, net.head.bias)", id="wrapper"),
        pytest.param({1: torch.zeros(1)}, "contains no tensors", id="key"),
        pytest.param(
            {"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)},
            "none of the 2 tensors in the file belongs to CloFormer",
            id="other net",
        ),
        pytest.param({"\x1b[2J" + "a" * 200: torch.zeros(1)}, "\\x1b[2Jaaaa", id="escape sequence"),
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
            with_tensor("head2.bias", torch.zeros_like), "not those of xxs: unknown 1 (head2.bias)", id="extra"
        ),
        pytest.param(
            with_tensor(STEM, lambda tensor: torch.zeros(16, 5, 3, 3)),
            "the network takes images of 5 channels",
            id="channels",
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
        pytest.param(with_tensor(STEM, Tensor.to_sparse), f"{STEM} is sparse, quantized", id="sparse"),
        pytest.param(with_tensor(STEM, lambda tensor: tensor.to("meta")), f"{STEM} is sparse, quantized", id="meta"),
        pytest.param(
            with_tensor("head.weight", lambda tensor: torch.zeros(1, 1).expand(10**10, 256)),
            f"head.weight is a tensor of {10**10 * 1024} bytes in a file of",
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
def test_quantized_weights(xxs_weights: Weights, tmp_path: Path) -> None:
    quantized = torch.quantize_per_tensor(xxs_weights[STEM], 0.1, 0, torch.qint8)
    assert "sparse, quantized" in refusal(tmp_path, torch_zip({**xxs_weights, STEM: quantized})).message


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
        (json.dumps(LABELS[:9]), "the number of labels (9) differs from the number of classes (10)"),
        (json.dumps([*LABELS[:9], LABELS[0]]), f"the label {LABELS[0]!r} occurs twice"),
        ("[]", "the number of labels (0) differs from the number of classes (10)"),
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
