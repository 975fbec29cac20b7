"""Measurements on this machine, in real processes and real runtimes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cloformer_deploy.bench import Bench, Protocol, bench, read_results
from cloformer_deploy.bench.devices import Options, open_device
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.errors import BundleError, MissingPartError, RequestError
from cloformer_deploy.progress import Silent
from tests.bench.conftest import FAST, SLOW, MakeBundle
from tests.processes import Processes

pytestmark = pytest.mark.integration
QUICK = Protocol(warmup_runs=2, warmup_s=0, runs=40, seconds=1)


def measured(bundle: Bundle, threads: int = 1, cores: tuple[int, ...] | None = None, timeout_s: float = 60) -> Bench:
    return bench(bundle, [open_device("host", Options())], threads, cores, QUICK, timeout_s, Silent())


@pytest.fixture
def bundle(onnx_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(onnx_bundle.root, tmp_path / "exports" / "small")))


def test_two_interleaved_files(bundle: Bundle) -> None:
    result = measured(bundle)
    assert result.exit_code == 0
    found = {item.path: item for item in result.results}
    slow, fast = found[SLOW], found[FAST]
    for item in (slow, fast):
        assert (item.status, item.source, item.runtime) == ("measured", "host", "onnxruntime")
        assert item.n >= 40
        assert item.min_ms is not None
        assert item.p90_ms is not None
        assert 0 < item.min_ms <= item.p90_ms
        assert item.peak_rss_bytes is not None
        assert 20e6 < item.peak_rss_bytes < 1e9
        assert item.init_ms is not None
        assert item.cores == tuple(sorted(os.sched_getaffinity(0)))
        assert item.before is not None
        assert item.max_abs_diff is None
    assert slow.speedup is None
    assert fast.speedup_to == SLOW
    assert fast.speedup is not None
    assert fast.speedup_ci95 is not None
    # Twelve convolutions to one.
    assert fast.speedup > 2
    assert fast.speedup_ci95[0] <= fast.speedup <= fast.speedup_ci95[1]
    assert read_results(bundle) == result.results


def test_cores(bundle: Bundle) -> None:
    last = max(os.sched_getaffinity(0))
    assert {item.cores for item in measured(bundle, cores=(last,)).results} == {(last,)}
    refused = measured(bundle, cores=(last + 1,)).errors
    assert isinstance(refused[0][1], RequestError)


def test_a_file_that_cannot_run_costs_no_other_its_figures(make_bundle: MakeBundle, onnx_bundle: Bundle) -> None:
    whole = (onnx_bundle.root / FAST).read_bytes()
    result = measured(make_bundle({FAST: whole, "cloformer_xxs-int8.onnx": whole[:200]}))
    found = {item.precision: item for item in result.results}
    assert found["fp16"].status == "measured"
    assert found["int8"].status == "failed"
    assert found["int8"].reason
    assert result.exit_code == 4


def test_core_ml_files_are_not_timed(make_bundle: MakeBundle, onnx_bundle: Bundle) -> None:
    whole = (onnx_bundle.root / FAST).read_bytes()
    package = "cloformer_xxs-fp32.mlpackage"
    found = {item.path: item for item in measured(make_bundle({FAST: whole, package: b"anything"})).results}
    if sys.platform != "darwin":
        assert found[package].status == "not_executed"
        assert found[package].reason == "coreml files run on macOS only, and this is Linux"
        alone = measured(make_bundle({package: b"anything"}))
        assert isinstance(alone.errors[0][1], MissingPartError)
        assert not alone.results


def command(processes: Processes, bundle: Bundle, *options: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "cloformer_deploy", "bench", str(bundle.root), "--json", *options]
    return processes.start(words, cwd=bundle.root.parent.parent)


def workers(process: "subprocess.Popen[str]", count: int) -> list[psutil.Process]:
    """The runner's workers below a command, once there are so many."""
    for _ in range(600):
        below = psutil.Process(process.pid).children(recursive=True)
        found = [item for item in below if item.cmdline()[-1:] == ["worker"]]
        if len(found) == count and all(item.cpu_times().user > 0.3 for item in found):
            return found
        time.sleep(0.05)
    raise AssertionError("no workers")


def test_a_killed_worker(bundle: Bundle, processes: Processes) -> None:
    process = command(processes, bundle)
    workers(process, 2)[0].kill()
    answer = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 4
    states = sorted((item["status"], item["n"] >= 100) for item in answer["results"])
    assert states == [("failed", False), ("measured", True)]
    (reason,) = (item["reason"] for item in answer["results"] if item["reason"])
    assert "SIGKILL" in reason


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_leaves_nothing_running(bundle: Bundle, processes: Processes, how: signal.Signals) -> None:
    process = command(processes, bundle)
    below = workers(process, 2)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == (-how if how is signal.SIGKILL else 130)
    assert not psutil.wait_procs(below, timeout=10)[1]
    assert read_results(bundle) == ()


def test_time_out(bundle: Bundle, processes: Processes) -> None:
    process = command(processes, bundle, "--timeout", "4", "--mlperf")
    answer = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 4
    assert {(item["status"], item["reason"]) for item in answer["results"]} == {("failed", "no answer in time")}


def test_the_newest_bundle(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloformer_deploy.cli.bench import _newest

    monkeypatch.chdir(bundle.root.parent.parent)
    assert _newest() == Path("exports/small")
    monkeypatch.chdir(bundle.root)
    with pytest.raises(RequestError, match="no bundle"):
        _newest()


def test_results_that_are_damaged_are_found_before_any_work(bundle: Bundle) -> None:
    (bundle.root / "bench.json").write_text("{")
    with pytest.raises(BundleError, match=r"bench\.json"):
        measured(bundle)


def test_a_bundle_of_nothing(make_bundle: MakeBundle) -> None:
    with pytest.raises(BundleError, match="no artifacts"):
        measured(make_bundle({}))
