"""The latency benchmark works: not what it measures, but that it does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.latency import CANDIDATES, speedups
from benchmarks.published import published_form
from cloformer_deploy.networks.cloformer import create_model

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
    command = [sys.executable, str(ROOT / "benchmarks" / "latency.py"), "--variant", "xxs", "--threads", "1"]
    command += ["--repeats", "2", "--rounds", "1", "--output", str(tmp_path / "out.json")]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    measured = json.loads((tmp_path / "out.json").read_text())
    assert [item["candidate"] for item in measured["results"]] == list(CANDIDATES)
    assert all(item["ms"] > 0 for item in measured["results"])
    assert len(speedups(measured, "xxs", 1, "litert", "litert plain")) == 2
    again = subprocess.run(
        [*command[:2], "--table", str(tmp_path / "out.json")], capture_output=True, text=True, check=True
    )
    assert again.stdout == shown.stdout
    assert "| torch eager |" in shown.stdout
