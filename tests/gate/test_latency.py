"""Latency checks of the gate, measured on two small files: twelve convolutions, and one."""

import shutil
from pathlib import Path

import pytest

from cloformer_deploy.bench import Protocol
from cloformer_deploy.bench.devices import Measured
from cloformer_deploy.bench.measure import load
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.errors import RequestError
from cloformer_deploy.gate import Check, latency_checks, read_config
from cloformer_deploy.gate.latency import open_baseline_bundle, speedup_check
from cloformer_deploy.progress import Silent
from tests.bench.conftest import FAST, SLOW, MakeBundle, make_bundle, onnx_bundle

__all__ = ["make_bundle", "onnx_bundle"]
pytestmark = pytest.mark.integration
QUICK = Protocol(warmup_runs=2, warmup_s=0, runs=40, seconds=1)


def checks(
    bundle: Bundle, limits: str, tmp_path: Path, baseline_bundle: Bundle | None = None
) -> dict[str, list[Check]]:
    config = tmp_path / "limits.toml"
    config.write_text(f'[[limits]]\nprecision = "fp16"\n{limits}\n')
    found = latency_checks(bundle, read_config(config), baseline_bundle, QUICK, Silent())
    return {path: list(items) for path, items in found.items()}


def test_nothing_is_timed_without_a_limit(onnx_bundle: Bundle, tmp_path: Path) -> None:
    assert checks(onnx_bundle, "sqnr_db = 1.0", tmp_path) == {}


@pytest.mark.parametrize(("least", "outcome"), [(1.5, "passed"), (900.0, "failed")])
def test_over_the_float32_file(onnx_bundle: Bundle, tmp_path: Path, least: float, outcome: str) -> None:
    found = checks(onnx_bundle, f"speedup = {least}", tmp_path)
    assert found.keys() == {FAST}
    (check,) = found[FAST]
    assert (check.name, check.outcome, check.limit) == ("speedup", outcome, least)
    assert check.value is not None
    assert check.ci95 is not None
    assert check.ci95[0] <= check.value <= check.ci95[1]


def test_the_same_file_is_not_slower(onnx_bundle: Bundle, tmp_path: Path) -> None:
    (check,) = checks(onnx_bundle, "slowdown = 0.3", tmp_path, open_baseline_bundle(onnx_bundle.root))[FAST]
    assert (check.name, check.outcome) == ("slowdown", "passed")
    assert check.value == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize(("least", "outcome"), [(0.95, "passed"), (1.0, "undecided"), (1.2, "failed")])
def test_a_limit_inside_the_interval_is_undecided(onnx_bundle: Bundle, least: float, outcome: str) -> None:
    timed = load(onnx_bundle, onnx_bundle.manifest.artifacts[0])
    noise = [0.9, 1.1, 0.92, 1.08, 0.94, 1.06, 0.96, 1.04, 0.98, 1.02]
    mine, other = (
        Measured(timed, "measured", rounds_ms=rounds)
        for rounds in (tuple(10.1 * value for value in noise), (10.0,) * len(noise))
    )
    check = speedup_check("speedup", mine, other, least, "the float32 file")
    assert check.outcome == outcome
    assert ("too few rounds" in check.text) == (outcome == "undecided")


def test_slower_than_the_file_of_the_baseline_bundle(
    onnx_bundle: Bundle, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    files = {FAST: (onnx_bundle.root / SLOW).read_bytes(), SLOW: (onnx_bundle.root / FAST).read_bytes()}
    now = make_bundle(files)
    (check,) = checks(now, "slowdown = 0.5", tmp_path, onnx_bundle)[FAST]
    assert (check.name, check.outcome) == ("slowdown", "failed")
    assert check.value is not None
    assert check.value < 0.6
    with pytest.raises(RequestError, match="no baseline bundle") as refused:
        checks(now, "slowdown = 0.5", tmp_path)
    assert "--baseline-bundle" in refused.value.hint


def test_what_cannot_be_timed_fails_unless_it_may(onnx_bundle: Bundle, make_bundle: MakeBundle, tmp_path: Path) -> None:
    whole = (onnx_bundle.root / FAST).read_bytes()
    broken = make_bundle({SLOW: whole, FAST: whole[:100]})
    (check,) = checks(broken, "speedup = 1.0", tmp_path)[FAST]
    assert (check.name, check.outcome) == ("latency", "failed")
    (check,) = checks(broken, 'speedup = 1.0\nnot_executed = "allow"', tmp_path)[FAST]
    assert (check.name, check.outcome) == ("latency", "passed")
    alone = make_bundle({FAST: whole})
    (check,) = checks(alone, "speedup = 1.0", tmp_path)[FAST]
    assert (check.outcome, "float32" in check.text) == ("failed", True)


def test_copies_are_left_as_they_are(onnx_bundle: Bundle, tmp_path: Path) -> None:
    copy = Bundle.open(Path(shutil.copytree(onnx_bundle.root, tmp_path / "bundle")))
    before = sorted(path.name for path in copy.root.iterdir())
    checks(copy, "speedup = 1.0", tmp_path)
    assert sorted(path.name for path in copy.root.iterdir()) == before
