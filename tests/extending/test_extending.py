"""A format, a device and a task of somebody else's, each in one file and one registry entry, through every command."""

import importlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bench.devices import DEVICES
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.weights.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from tests.cli.command_line import Outcome, invoke, parsed, put, relist
from tests.conftest import ROOT
from tests.tiny import TRAINED, TRAINED_SIDE

pytestmark = pytest.mark.integration

SIZE = ("--input-size", TRAINED_SIDE)


def answer(outcome: Outcome) -> Any:
    """The JSON answer of a command that succeeded."""
    assert outcome.code == 0, outcome.said
    return parsed(outcome.stdout)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All three registered, here and in the processes that this one starts; gone again afterwards."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for name in ("toy_backend", "toy_task", "toy_device"):
        importlib.import_module(f"tests.extending.{name}").register()
    yield
    for registry, name in ((BACKENDS, "toy"), (TASKS, "first-of-two"), (DEVICES, "toy")):
        del registry[name]


def test_a_format_a_device_and_a_task_in_one_file_each(
    toys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = load_checkpoint(TRAINED)
    own = Checkpoint(
        "own", known.sha256, known.variant, known.num_classes, None, known.network, "first-of-two",
        architecture=known.architecture, state_dict=known.state_dict,
    )  # fmt: skip
    save_checkpoint(own, tmp_path / "own.safetensors")

    formats = ("--format", "toy", "--format", "onnx")
    exported = answer(invoke("export", "--weights", "own.safetensors", *formats, *SIZE, "--output", "b", "--json"))
    assert exported["task"] == "first-of-two"
    assert {item["format"] for item in exported["artifacts"]} == {"toy", "onnx"}
    assert [item["outputs"][0]["name"] for item in exported["artifacts"]] == ["scores", "scores"]
    assert all(item["check"]["sqnr_db"] > 90 for item in exported["artifacts"])

    (toy,) = (item["path"] for item in exported["artifacts"] if item["format"] == "toy")
    inspected = answer(invoke("inspect", f"b/{toy}", "--json"))
    assert inspected["toy"] == {"loads": True}
    assert inspected["metadata"]["task"] == "first-of-two"

    validated = answer(invoke("validate", "b", "--limit", "24", "--json"))
    assert (validated["task"], validated["metric"]) == ("first-of-two", "accuracy")
    assert [item["status"] for item in validated["artifacts"]] == ["passed", "passed"]
    assert {item["runtime"] for item in validated["artifacts"]} == {"toy-runtime", "onnxruntime"}
    assert all(item["agreement"] == 1 and item["drop_pp"] == 0 for item in validated["artifacts"])

    accepted = invoke("gate", "b", "--limit", "24", "--baseline", "base.json", "--update-baseline", "--no-cache")
    assert accepted.code == 0, accepted.said
    gated = answer(invoke("gate", "b", "--limit", "24", "--baseline", "base.json", "--no-cache", "--json"))
    assert gated["passed"]
    assert "regression_pp" in {check["name"] for item in gated["artifacts"] for check in item["checks"]}

    measured = answer(invoke("bench", "b", "--device", "toy", "--device", "host", "--json"))
    places = {(item["device"], item["format"]): item["status"] for item in measured["results"]}
    assert places == dict.fromkeys([(d, f) for d in ("toy", "host") for f in ("toy", "onnx")], "measured")

    report = invoke("report", "b", "--limit", "24", "--cache", "cache")
    assert report.code == 0, report.said
    page = (tmp_path / "b" / "report.html").read_text()
    assert "Toy runtime" in page
    assert "accuracy" in page


def test_a_fault_in_a_format_of_ones_own_fails(toys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a sign-flipped head, listed with its true checksum, fails the gate."""
    monkeypatch.chdir(tmp_path)
    known = load_checkpoint(TRAINED)
    flipped = {**known.state_dict, "head.weight": -known.state_dict["head.weight"]}
    save_checkpoint(replace(known, state_dict=flipped), tmp_path / "flipped.safetensors")
    for weights in (TRAINED, Path("flipped.safetensors")):
        made = invoke("export", "--weights", weights, "--format", "toy", *SIZE, "--output", weights.stem)
        assert made.code == 0, made.said
    (path,), (other,) = (list((tmp_path / name).glob("*.toy")) for name in (TRAINED.stem, "flipped"))
    assert invoke("gate", TRAINED.stem, "--limit", "64", "--no-cache").code == 0
    put(path, other.read_bytes())
    relist(tmp_path / TRAINED.stem)
    assert invoke("gate", TRAINED.stem, "--limit", "64", "--no-cache").code == 1
