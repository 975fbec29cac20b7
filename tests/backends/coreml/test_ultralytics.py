"""Ultralytics' Core ML exporter takes a detector with Clo attention after `prepare`, and not before."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cloformer_deploy.backends.coreml.interpreter import Program
from tests.conftest import ROOT
from tests.other_python import other_python

pytestmark = pytest.mark.integration


def exported(python: Path, folder: Path, form: str) -> str:
    """The last line that the script prints: a path, or why there is none."""
    folder.mkdir()
    module = "tests.backends.coreml.ultralytics_export"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "YOLO_OFFLINE": "true"}
    done = subprocess.run(
        [python, "-m", module, folder, form], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_it_exports_what_was_prepared_and_nothing_else(tmp_path: Path) -> None:
    """Costs 20 s: Ultralytics is imported twice, and traces twice."""
    python = other_python("ultralytics")
    said = exported(python, tmp_path / "as-written", "written")
    assert said.startswith("failed:")
    assert "pythonop" in said
    package = tmp_path / "prepared" / exported(python, tmp_path / "prepared", "prepared")
    program = Program.load(package)
    (given,) = program.package.inputs
    found = program.run({given.name: np.zeros(given.shape, np.float32)})
    assert all(np.isfinite(np.asarray(values)).all() for values in found.values())
