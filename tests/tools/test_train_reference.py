"""The command: what it refuses, what it leaves, and that a kill changes no weight."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloformer_deploy.weights.checkpoints import load_checkpoint
from tests.conftest import ROOT
from tests.tools.samples import CLASSES, write_images
from tools.train_reference import arguments_parser, main, prepare
from tools.training.loop import STATE
from tools.training.state import save_state

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


def arguments(images: Path, output: Path, **changes: str) -> list[str]:
    options = {"variant": "xxs", "data": str(images), "val": str(images), "output": str(output)}
    options |= {"schedule": "32:1", "batch": "4", **changes}
    return [text for name, value in options.items() for text in (f"--{name}", value)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schedule": "33:1"}, "multiple of 32"),
        ({"data": "/absent"}, "/absent"),
        ({"val": "rendered"}, "other classes"),
        ({"init": "/absent.pth"}, "no such file"),
        ({"batch": "100"}, "batch 100"),
        ({"data": "rendered", "labels": "labels.txt"}, "--labels"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], told: str
) -> None:
    assert main(arguments(images, tmp_path / "run", **changes)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not any(path.is_file() for path in (tmp_path / "run").rglob("*"))


@pytest.mark.parametrize("changes", [{"batch": "0"}, {"threads": "0"}, {"variant": "m"}])
def test_an_option_that_is_none_is_refused(images: Path, tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments(images, tmp_path / "run", **changes))
    assert caught.value.code == 2


def test_weights_for_other_classes_are_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(ROOT / "models" / "xxs-imagenette.safetensors")
    assert main(arguments(images, tmp_path / "run", init=weights)) == 2
    assert "10 other classes" in capsys.readouterr().err


def test_the_state_of_another_training_is_refused_and_left(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = prepare(arguments_parser().parse_args(arguments(images, tmp_path)))
    save_state(tmp_path / STATE, begun.recipe.fingerprint(), begun.progress, begun.training)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(arguments(images, tmp_path, seed="1")) == 2
    assert "seed was 0, is 1" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def start(command: list[str]) -> "subprocess.Popen[str]":
    script = str(ROOT / "tools" / "train_reference.py")
    return subprocess.Popen(
        [sys.executable, script, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def kill_after_first_save(command: list[str], state: Path, *, times: int) -> None:
    """Start the command and kill it some steps after it first saved; do so `times` times."""
    for _ in range(times):
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = start(command)
        while not state.exists() or state.stat().st_mtime_ns == before:
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX's")
def test_killed_and_resumed_it_gives_the_same_weights(images: Path, tmp_path: Path) -> None:
    def command(output: Path, save_every: str) -> list[str]:
        # Two stages, and kills in the middle of epochs: each of 4 steps.
        settings = {"schedule": "32:4,64:1.5", "threads": "1", "save-every": save_every}
        return arguments(images, output, **settings)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(command(whole, "30"))
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    kill_after_first_save(command(killed, "0"), killed / "state.pt", times=2)
    process = start(command(killed, "0"))
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors

    resumed = re.search(r"going on from step (\d+) of 22", errors)
    assert resumed is not None
    assert 0 < int(resumed[1]) < 22
    assert (killed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    checkpoint = load_checkpoint(killed / "weights.safetensors")
    assert (checkpoint.variant, checkpoint.labels) == ("xxs", CLASSES)
    assert output == f"{checkpoint.sha256}  {killed / 'weights.safetensors'}\n"
    record = json.loads((killed / "recipe.json").read_text())
    assert record["weights_sha256"] == checkpoint.sha256
    assert record["validation"]["n"] == 16
    steps = [line["step"] for line in map(json.loads, (killed / "log.jsonl").read_text().splitlines())]
    assert steps == sorted(steps)
    assert steps[-1] == record["steps"] == 22
    with Image.open(killed / "curve.png") as curve:
        assert np.asarray(curve).std() > 0
