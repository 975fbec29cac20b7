"""A network without any Clo block, timm's MobileNetV4, from its own environment: a program, then files that run."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.command_line import invoke, parsed
from tests.conftest import ROOT
from tests.other_python import other_python

pytestmark = pytest.mark.integration


def test_a_mobilenet_becomes_files_of_every_format(tmp_path: Path) -> None:
    python = other_python("ultralytics")  # which needs torchvision, as timm does
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-m", "tests.own.peer_program", tmp_path / "mobilenet.pt2"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    formats = [word for name in ("onnx", "coreml", "tflite") for word in ("--format", name)]
    given = ("--weights", tmp_path / "mobilenet.pt2", "--output", tmp_path / "bundle", *formats, "--json")
    outcome = invoke("export", *given)
    assert outcome.code == 0, outcome.said
    found = parsed(outcome.stdout)
    assert found["task"] == "tensors"
    assert min(item["check"]["sqnr_db"] for item in found["artifacts"]) >= 110
