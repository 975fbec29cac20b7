"""The GitHub action and the pre-commit hook do what docs/gate.md says; their steps are run one by one."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from onnx import numpy_helper

from cloformer_deploy.bundle import MANIFEST_NAME, Bundle, digest, size_bytes
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent
from tests.tiny import TRAINED, TRAINED_SIDE

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
INPUT = re.compile(r"\$\{\{ *inputs\.(\w+) *\}\}")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("action") / "bundle"
    asked = ExportRequest(("onnx",), weights=str(TRAINED), height=TRAINED_SIDE, width=TRAINED_SIDE, output=output)
    return export(asked, Silent()).bundle.root


def run_action(folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """Run the steps of the action in order until one fails; those that use another action need GitHub."""
    values = {name: given.get(name, item.get("default", "")) for name, item in ACTION["inputs"].items()}
    assert given.keys() <= values.keys()
    done = subprocess.CompletedProcess[str]([], 0, "", "")
    for step in ACTION["runs"]["steps"]:
        condition = step.get("if")
        assert condition in (None, "${{ inputs.install == 'true' }}")
        if "uses" in step or (condition and values["install"] != "true"):
            continue
        done = run_step(step, values, folder)
        if done.returncode:
            break
    return done


def run_step(step: Mapping[str, Any], inputs: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    assert "${{" not in step["run"], "inputs reach commands by way of variables alone"
    own = {key: INPUT.sub(lambda match: inputs[match[1]], value) for key, value in step["env"].items()}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(folder / "summary.md"), "PATH": path}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **github, **own}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def spoil(bundle: Path) -> None:
    """Zero a layer's weights, and list the file as it is now."""
    opened = Bundle.open(bundle)
    (artifact,) = opened.manifest.artifacts
    path = opened.path(artifact)
    model = onnx.load(path)
    chosen = next(item for item in model.graph.initializer if len(item.dims) == 4 and item.dims[0] > 100)
    chosen.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(chosen), chosen.name))
    onnx.save(model, path)
    changed = artifact.model_copy(update={"sha256": digest(path), "bytes": size_bytes(path)})
    manifest = opened.manifest.model_copy(update={"artifacts": (changed,)})
    (bundle / MANIFEST_NAME).write_text(manifest.model_dump_json())


def test_the_action_passes_a_sound_build_and_fails_a_worse_one(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "a bundle")
    given = {"bundle": "a bundle", "baseline": "drift-baseline.json", "limit": "64", "install": "false"}
    accept = [sys.executable, "-m", "cloformer_deploy", "gate", "a bundle", "--limit", "64", "--update-baseline"]
    subprocess.run([*accept, "--baseline", "drift-baseline.json"], cwd=tmp_path, check=True, capture_output=True)
    sound = run_action(tmp_path, **given)
    assert sound.returncode == 0, sound.stderr
    spoil(tmp_path / "a bundle")
    worse = run_action(tmp_path, **given)
    assert worse.returncode == 1, worse.stderr
    assert "::error title=onnx fp32%3A regression_db::" in worse.stderr
    summary = (tmp_path / "summary.md").read_text()
    assert summary.index("### Drift gate: passed") < summary.index("### Drift gate: failed")
    assert (tmp_path / "gate.xml").read_text().count("<failure") >= 2
    shutil.rmtree(tmp_path / "a bundle")
    shutil.copytree(bundle, tmp_path / "a bundle")
    assert run_action(tmp_path, **given).returncode == 0


def test_what_stands_in_an_input_is_no_command(tmp_path: Path) -> None:
    done = run_action(tmp_path, bundle='x"; touch hacked; echo "$(touch hacked)', install="false")
    assert done.returncode == 2
    assert not (tmp_path / "hacked").exists()


def test_the_hook_of_the_page_is_run_as_pre_commit_would(bundle: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "gate.md").read_text()
    (indented,) = re.findall(r"\n((?:    .*\n)+)", page[page.index("    - repo: local") - 1 :])[:1]
    (hook,) = yaml.safe_load(indented)[0]["hooks"]
    (offered,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["entry"].startswith(offered["entry"])
    assert (
        (hook["language"], hook["pass_filenames"])
        == ("system", False)
        == (
            offered["language"],
            offered["pass_filenames"],
        )
    )
    shutil.copytree(bundle, tmp_path / "exports" / "mine")
    tool, *args = shlex.split(hook["entry"])
    assert tool == "cloformer-deploy"
    command = [sys.executable, "-m", "cloformer_deploy", *args]
    accept = subprocess.run([*command, "--update-baseline"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert accept.returncode == 0, accept.stderr
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    spoil(tmp_path / "exports" / "mine")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 1
