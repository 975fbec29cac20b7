"""`export --max-drop`: a limit that holds, one that does not, and a search that is killed and goes on."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.command_line import COMMAND, Outcome, parsed, read_manifest, spawn, tree
from tests.cli.limited import INT8, calibration, save_images

pytestmark = pytest.mark.integration

STATE = ".bundle.cloformer_custom-int8.onnx.search.json"
BLOCKS = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("data"), "validation", 40, 1.0)


def evaluations(outcome: Outcome) -> tuple[int, int]:
    """Return the number of evaluations, and of those among them whose result was already known."""
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("Evaluation ")]
    return len(lines), sum("known already" in line for line in lines)


def test_holds_at_once(data: Path, tmp_path: Path) -> None:
    fitting = calibration(tmp_path, 1.0, 32)
    done = spawn(*INT8, "--calibration", fitting, "--data", data, "--max-drop", 5, cwd=tmp_path)
    assert done.code == 0, done.stderr
    accuracy = parsed(done.stdout)["artifacts"][0]["check"]["accuracy"]
    low, high = accuracy["drop_ci95_pp"]
    assert low <= accuracy["drop_pp"] <= min(5, high)
    assert (accuracy["n"], accuracy["evaluations"], accuracy["budget"], accuracy["excluded_layers"]) == (40, 2, 32, [])
    assert read_manifest(tmp_path / "bundle")["artifacts"][0]["excluded_layers"] == []
    assert not (tmp_path / STATE).exists()


def test_killed_then_not_held_then_held(data: Path, tmp_path: Path) -> None:
    clipping = calibration(tmp_path, 0.5, 8)
    asked = (*INT8, "--calibration", clipping, "--data", data, "--max-drop", 0)

    process = subprocess.Popen(
        [*COMMAND, *map(str, asked)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert any(line.startswith("Evaluation 2") for line in process.stderr)
    process.kill()
    process.communicate()
    before = tree(tmp_path / "bundle")
    assert not any("manifest" in name for name in before)

    failed = spawn(*asked, "--budget", 2, cwd=tmp_path)
    assert failed.code == 1, failed.stderr
    assert parsed(failed.stdout)["error"]["code"] == 1
    assert "--max-drop 0" in failed.said
    assert f"--budget {BLOCKS + 5}" in failed.said
    assert evaluations(failed) == (2, 1)
    assert tree(tmp_path / "bundle") == {}

    done = spawn(*asked, "--budget", BLOCKS + 3, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert evaluations(done) == (BLOCKS + 3, 2)
    (artifact,) = parsed(done.stdout)["artifacts"]
    accuracy = artifact["check"]["accuracy"]
    assert accuracy["evaluations"] == BLOCKS + 3
    assert accuracy["drop_pp"] <= 0
    assert len(artifact["excluded_layers"]) == BLOCKS - 1
    assert accuracy["excluded_layers"] == read_manifest(tmp_path / "bundle")["artifacts"][0]["excluded_layers"]
    assert not (tmp_path / STATE).exists()
