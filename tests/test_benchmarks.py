"""The latency benchmark works: not what it measures, but that it does. Limits that are not held are told."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

from benchmarks import limits
from benchmarks.latency import CANDIDATES
from benchmarks.published import published_form
from benchmarks.speedups import speedups
from benchmarks.suppression import same
from cloformer_deploy.backends.tflite.placement import Placement, placement
from cloformer_deploy.networks.cloformer import create_model
from cloformer_deploy.tasks.boxes import Detections
from tests.tiny import TRAINED

ROOT = Path(__file__).resolve().parents[1]


def test_the_published_form_computes_the_same() -> None:
    torch.manual_seed(0)
    model = create_model("xxs", 5).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = model(image)
        torch.testing.assert_close(published_form(model)(image), expected, rtol=0, atol=1e-5)


@pytest.mark.integration
def test_latency(tmp_path: Path) -> None:
    """And what it compares with is the plain graph, which XNNPACK cannot run in one partition; ours it can."""
    command = [sys.executable, str(ROOT / "benchmarks" / "latency.py"), "--variant", str(TRAINED), "--threads", "1"]
    command += ["--repeats", "2", "--rounds", "1", "--no-limits", "--output", str(tmp_path / "out.json")]
    command += ["--files", str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    measured = json.loads((tmp_path / "out.json").read_text())
    assert [item["candidate"] for item in measured["results"]] == list(CANDIDATES)
    assert all(item["ms"] > 0 for item in measured["results"])
    assert len(speedups(measured, str(TRAINED), 1, "litert", "litert plain")) == 2
    again = subprocess.run(
        [*command[:2], "--table", str(tmp_path / "out.json"), "--no-limits"], capture_output=True, text=True, check=True
    )
    assert again.stdout == shown.stdout
    assert "| torch eager |" in shown.stdout
    plain = placement(tmp_path / f"{TRAINED.stem}-plain.tflite")
    assert plain.partitions > 1
    assert plain.undelegated["FULLY_CONNECTED"] > 0
    assert placement(tmp_path / f"{TRAINED.stem}.tflite") == Placement(1, {})


def slower(measured: Any) -> None:
    """Make a lowered xxs twice as slow."""
    for item in measured["results"]:
        if (item["variant"], item["threads"], item["candidate"]) == ("xxs", 1, "onnxruntime"):
            item["repeats_ms"] = [2 * value for value in item["repeats_ms"]]


BROKEN: dict[str, tuple[Callable[[Any], Iterator[str]], Callable[[Any], object], str]] = {
    "latency": (limits.latency, slower, "speedup of onnxruntime over onnxruntime plain, xxs"),
    "peers": (limits.peers, slower, "speedup of onnxruntime over onnxruntime plain, xxs"),
    "int8": (
        limits.int8,
        lambda measured: measured["accuracy"][0]["artifacts"][0].update(drop_ci95_pp=[-0.1, float("nan")]),
        "upper bound of the drop in pp is nan",
    ),
    "gate": (limits.gate, lambda measured: measured["alarms"].update(alarms=5), "false alarms in 200 trials is 5"),
    "planted": (limits.planted, lambda measured: measured["faults"][0].update(caught=False), "is not caught"),
}
"""For each benchmark the check of its limits, an edit of its recorded results that breaks one, and its line."""

SHORT = {
    "int8": [
        "speedup of onnxruntime int8 over onnxruntime, xxs-rendered is 1.28, below 1.35",
        "speedup of onnxruntime int8 over onnxruntime, s is 1.689, below 1.75",
    ]
}
"""Limits that recorded results do not hold (docs/int8.md); better is told here too."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_limit_that_is_not_held(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    check, edit, line = BROKEN[name]
    measured = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    assert list(check(measured)) == SHORT.get(name, [])
    edit(measured)
    with pytest.raises(typer.Exit) as ended:
        limits.enforce(check, measured)
    assert ended.value.exit_code == 1
    assert line in capsys.readouterr().err


def test_speedups_of_int8_are_not_judged_without_integer_instructions() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "int8.json").read_text())
    measured["machine"]["instructions"] = "AVX2"
    assert list(limits.int8(measured)) == [
        "speedups of int8 are promised for processors with VNNI; this one has AVX2, so they remain unchecked"
    ]


def test_detections_are_the_same_by_class_score_and_edges() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.2, 0.2, 0.9, 0.9]], np.float32)
    first = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([3, 4]))
    assert (
        same(first, replace(first, boxes=first.boxes[::-1], scores=first.scores[::-1], classes=np.array([4, 3]))) == 2
    )
    assert same(first, replace(first, classes=np.array([3, 5]))) == 1
    assert same(first, replace(first, scores=first.scores - np.float32(1e-3))) == 0
    assert same(first, replace(first, boxes=first.boxes + np.array([0, 0, 0, 1e-3], np.float32))) == 0
