"""`bench` as a user runs it."""

import io
import json
import shutil
from pathlib import Path

import pytest

from cloformer_deploy.bench import Bench, Result
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.errors import ToolError
from cloformer_deploy.report.bench import bench_json, bench_tables
from tests.bench.conftest import FAST, SLOW, make_bundle, onnx_bundle
from tests.cli.command_line import invoke, spawn

__all__ = ["make_bundle", "onnx_bundle"]


def shown(bundle: Bundle, *results: Result) -> str:
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    for part in bench_tables(bundle, Bench(results, ())):
        console.print(part, markup=False, soft_wrap=isinstance(part, str))
    return console.export_text()


def result(bundle: Bundle, place: int = 0, **other: object) -> Result:
    values: dict[str, object] = {
        **bundle.manifest.artifacts[place].model_dump(include={"path", "format", "precision", "target", "sha256"}),
        "device": "ssh://board",
        "source": "device",
        "status": "measured",
        "threads": 1,
        "n": 120,
        "p50_ms": 12.345,
        "p90_ms": 13.0,
        "measured_at": "2026-01-01T00:00:00+00:00",
    }
    return Result.model_validate({**values, **other})


@pytest.mark.integration
def test_the_newest_bundle_on_this_machine(onnx_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(onnx_bundle.root, tmp_path / "exports" / "small")
    done = spawn("bench", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert "onnx fp16" in done.stdout
    table = [line for line in done.stdout.splitlines() if "p50" in line or line.startswith((" onnx", " ─"))]
    assert len(table) == 4
    assert max(map(len, table)) <= 80
    kept = json.loads((tmp_path / "exports" / "small" / "bench.json").read_text())
    assert {item["path"] for item in kept["results"]} == {SLOW, FAST}
    assert all(item["n"] >= 100 for item in kept["results"])


def test_requests_that_are_wrong(onnx_bundle: Bundle, tmp_path: Path) -> None:
    for words, code, said in (
        ((), 2, "no bundle in exports"),
        ((onnx_bundle.root, "--device", "phone"), 2, "host, adb[:SERIAL], ssh://"),
        ((onnx_bundle.root, "--cores", "x"), 2, "--cores"),
        ((onnx_bundle.root, "--device", "qai-hub:Phone"), 3, "cloformer-deploy[qai-hub]"),
        ((onnx_bundle.root, "--device", "ssh://nowhere.invalid"), 4, "nowhere.invalid"),
    ):
        done = invoke("bench", *words)
        assert done.code == code, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert not done.stdout


def test_what_has_no_latency_shows_none(onnx_bundle: Bundle) -> None:
    assert "12.3" in shown(onnx_bundle, result(onnx_bundle))
    text = shown(onnx_bundle, result(onnx_bundle, source="emulated", max_abs_diff=0.0))
    assert "12.3" not in text
    assert "No latency is given" in text
    assert "0.0e+00" in text


def test_marks(onnx_bundle: Bundle) -> None:
    text = shown(
        onnx_bundle,
        result(onnx_bundle, throttled=True, noisy=True, placement={"NPU": 120, "CPU": 3}),
        result(onnx_bundle, 1, status="failed", reason="no answer in time", n=0),
    )
    for part in ("throttled", "noisy", "120 on NPU, 3 on CPU", "failed: no answer in time"):
        assert part in text


def test_what_knows_no_percentiles_shows_its_mean(onnx_bundle: Bundle) -> None:
    text = shown(onnx_bundle, result(onnx_bundle, p50_ms=None, p90_ms=None, mean_ms=7.125, std_ms=0.5, runtime="tool"))
    assert "mean 7.12 ms, std 0.50; tool gives no percentiles" in text


def test_json_has_results_and_errors(onnx_bundle: Bundle) -> None:
    answer = bench_json(Bench((result(onnx_bundle),), (("adb", ToolError("it is off", "turn it on")),)))
    assert answer["schema_version"] == 2
    assert answer["errors"] == [{"device": "adb", "code": 4, "message": "it is off", "hint": "turn it on"}]
    (item,) = answer["results"]
    for name in [
        "path",
        "format",
        "precision",
        "device",
        "runtime",
        "source",
        "threads",
        "n",
        "init_ms",
        "first_ms",
        "mean_ms",
        "std_ms",
        "min_ms",
        "p50_ms",
        "p90_ms",
        "p99_ms",
        "peak_rss_bytes",
        "speedup",
        "speedup_ci95",
        "placement",
    ]:
        assert name in item
