"""`gate` on real files: a sound build passes, a worse one does not and is told why, and nothing is evaluated twice."""

import json
import os
import re
import signal
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.cli.command_line import COMMAND, FP32, CopyBundle, edit_manifest, hide, invoke, read_manifest, relist

pytestmark = pytest.mark.integration

N = 96
FLAGS = ("--limit", N, "--cache", "cache", "--json")


def judged(bundle: Path, *args: object, code: int = 0) -> dict[str, Any]:
    """The JSON answer of a gate."""
    outcome = invoke("gate", bundle, *FLAGS, *args)
    assert outcome.code == code, outcome.said
    answer: dict[str, Any] = json.loads(outcome.stdout)
    assert answer["passed"] is (code == 0)
    return answer


def checks(answer: dict[str, Any], precision: str = "fp32") -> dict[str, dict[str, Any]]:
    (cell,) = [item for item in answer["artifacts"] if item["precision"] == precision]
    return {check["name"]: check for check in cell["checks"]}


def spoil(bundle: Path, channels: int = 8) -> None:
    """Zero some output channels of the widest 1x1 convolution of the float32 file, and list it as it is now."""
    path = bundle / FP32
    model = onnx.load(path)
    convolutions = [item for item in model.graph.initializer if len(item.dims) == 4 and item.dims[2] == 1]
    chosen = max(convolutions, key=lambda item: item.dims[0] * item.dims[1])
    weights = numpy_helper.to_array(chosen).copy()
    weights[:channels] = 0
    chosen.CopyFrom(numpy_helper.from_array(weights, chosen.name))
    path.unlink()  # it is a hard link to what other tests use
    onnx.save(model, path)
    relist(bundle)


def test_a_sound_build_passes_and_is_accepted_and_the_same_build_passes_again(exported: CopyBundle) -> None:
    bundle = exported()
    first = judged(bundle, "--baseline", "baseline.json", "--update-baseline")
    assert [item["status"] for item in first["artifacts"]] == ["passed", "passed"]
    assert first["reference"]["n"] == N
    before = Path("baseline.json").read_bytes()
    again = judged(bundle, "--baseline", "baseline.json")
    assert {check["outcome"] for precision in ("fp32", "fp16") for check in checks(again, precision).values()} == {
        "passed"
    }
    assert checks(again).keys() == {*checks(first), "regression_pp", "regression_db", "growth", "operators_growth"}
    assert Path("baseline.json").read_bytes() == before


def test_a_worse_build_fails_with_every_report(exported: CopyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = exported()
    judged(bundle, "--baseline", "baseline.json", "--update-baseline")
    accepted = Path("baseline.json").read_bytes()
    spoil(bundle)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    args = ("--baseline", "baseline.json", "--junit", "gate.xml", "--summary", "gate.md")
    outcome = invoke("gate", bundle, *FLAGS, *args)
    assert outcome.code == 1
    found = checks(json.loads(outcome.stdout))
    assert found["sqnr_db"]["outcome"] == found["regression_db"]["outcome"] == "failed"
    assert {item["outcome"] for item in checks(json.loads(outcome.stdout), "fp16").values()} == {"passed"}
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("::error")]
    assert any(line.startswith("::error title=onnx fp32%3A sqnr_db::SQNR ") for line in errors)
    failures = ET.parse("gate.xml").getroot().findall(".//testcase[failure]")
    assert {(item.get("classname"), item.get("name")) for item in failures} == {
        (FP32, name) for name, check in found.items() if check["outcome"] == "failed"
    }
    summary = Path("gate.md").read_text()
    assert summary.startswith("### Drift gate: failed")
    assert "| onnx fp32 | **failed** |" in summary
    assert invoke("gate", bundle, *FLAGS, "--baseline", "baseline.json", "--update-baseline").code == 1
    assert Path("baseline.json").read_bytes() == accepted


def test_limits_come_from_the_file(exported: CopyBundle) -> None:
    bundle = exported()
    spoil(bundle, 1)
    db = checks(judged(bundle, code=1))["sqnr_db"]["value"]
    Path("drift.toml").write_text(f'[[limits]]\nprecision = "fp32"\nsqnr_db = {db - 5}\nagreement = 0.5\n')
    answer = judged(bundle)
    assert answer["config"] == "drift.toml"
    assert checks(answer)["sqnr_db"]["limit"] == pytest.approx(db - 5)


def test_what_cannot_be_run_fails_unless_it_may(exported: CopyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = exported()
    hide(monkeypatch, "onnxruntime")
    answer = judged(bundle, code=1)
    assert checks(answer)["executed"]["outcome"] == "failed"
    Path("drift.toml").write_text('[defaults]\nnot_executed = "allow"\n')
    assert [item["status"] for item in judged(bundle)["artifacts"]] == ["not_executed", "not_executed"]


def test_a_file_that_the_baseline_has_must_be_there(exported: CopyBundle) -> None:
    bundle = exported()
    judged(bundle, "--baseline", "baseline.json", "--update-baseline")
    edit_manifest(bundle, lambda manifest: manifest["artifacts"].pop())
    (gone,) = judged(bundle, "--baseline", "baseline.json", code=1)["absent"]
    assert gone["format"] == "onnx"


def test_nothing_is_run_twice_and_another_file_is_not_taken_for_it(exported: CopyBundle) -> None:
    bundle = exported()
    judged(bundle)
    answer = judged(bundle)
    weights = bundle / read_manifest(bundle)["weights"]["file"]
    assert weights.exists()
    # With neither the reference nor a runtime's session, only what is kept can answer.
    code = (
        "import cloformer_deploy.weights.checkpoints, cloformer_deploy.backends.onnx.runtime as runtime\n"
        "def refuse(*_): raise AssertionError('run again')\n"
        "runtime.OnnxRuntime.open = cloformer_deploy.weights.checkpoints.load_checkpoint = refuse\n"
        "from cloformer_deploy.cli import main; main()"
    )
    command = [COMMAND[0], "-c", code, "gate", str(bundle), *map(str, FLAGS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == answer
    spoil(bundle)
    assert checks(judged(bundle, code=1))["sqnr_db"]["outcome"] == "failed"


def test_two_at_once_and_a_killed_one(exported: CopyBundle, tmp_path: Path) -> None:
    bundle = exported()
    command = [*COMMAND, "gate", str(bundle), *map(str, FLAGS)]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    while not re.match(r"\s+\d+ of", killed.stderr.readline()):  # some batches are kept
        assert killed.poll() is None
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert json.loads(answers[0]) == json.loads(answers[1]) == judged(bundle, "--no-cache")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_store_or_baseline_never_passes_what_is_worse(exported: CopyBundle, kept: float) -> None:
    bundle = exported()
    judged(bundle, "--baseline", "baseline.json", "--update-baseline")
    spoil(bundle)
    for name in ("cache/results.sqlite", "baseline.json"):
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: int(kept * len(content))])
    assert invoke("gate", bundle, *FLAGS, "--baseline", "baseline.json").code == 2
    judged(bundle, code=1)


def test_an_image_without_numbers_is_named(exported: CopyBundle) -> None:
    bundle = exported()
    path = bundle / FP32
    model = onnx.load(path)
    head = next(item for item in model.graph.initializer if item.name.endswith("head.bias"))
    values = numpy_helper.to_array(head).copy()
    values[3] = np.nan
    head.CopyFrom(numpy_helper.from_array(values, head.name))
    path.unlink()
    onnx.save(model, path)
    relist(bundle)
    answer = judged(bundle, code=1)
    assert checks(answer)["finite"]["outcome"] == "failed"
    (cell,) = [item for item in answer["artifacts"] if item["precision"] == "fp32"]
    assert any("NaN" in cause for cause in cell["causes"])


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--update-baseline",), "give it with --baseline"),
        (("--baseline", "nowhere.json"), "cannot be read"),
        (("--config", "nowhere.toml"), "cannot be read"),
        (("--junit", "nowhere/gate.xml"), "cannot be written"),
    ],
)
def test_mistakes(exported: CopyBundle, args: tuple[str, ...], told: str) -> None:
    outcome = invoke("gate", exported(), *FLAGS, *args)
    assert outcome.code == 2
    assert told in outcome.said
