"""The wheel is complete: installed outside the checkout, it exports its bundled weights and reports on them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloformer_deploy.weights.zoo import DEFAULT, bundled_checkpoints

ROOT = Path(__file__).resolve().parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")

LISTS_WHAT_SHIPS = """
import json
from cloformer_deploy.data import bundled_calibration
from cloformer_deploy.weights.zoo import bundled_checkpoints
paths = {name: str(path) for name, path in bundled_checkpoints().items()}
print(json.dumps([bundled_calibration("rendered").n, paths]))
"""


@pytest.mark.integration
def test_the_wheel_exports_its_packaged_default(tmp_path: Path) -> None:
    built = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(built, check=True, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, cwd=tmp_path)
    env = {**os.environ, "PYTHONPATH": str(site)}

    def run(*args: str) -> str:
        done = subprocess.run([sys.executable, "-P", *args], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    count, weights = json.loads(run("-c", LISTS_WHAT_SHIPS))
    assert count == 256
    assert weights.keys() == bundled_checkpoints().keys()
    assert all(Path(path).is_relative_to(site) for path in weights.values())
    made = json.loads(run("-m", "cloformer_deploy", "export", "--format", "onnx", "--json"))
    assert [item["path"] for item in made["artifacts"]] == ["cloformer_xxs-fp32.onnx"]
    bundle = tmp_path / "exports" / DEFAULT
    assert (bundle / "cloformer_xxs-fp32.onnx").is_file()
    run("-m", "cloformer_deploy", "report", str(bundle), "--limit", "2", "--cache", "cache")
    assert "<style>\n/* Colors" in (bundle / "report.html").read_text()
