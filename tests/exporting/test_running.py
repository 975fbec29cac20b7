"""Conversions in processes of their own: what happens when one fails, crashes, or is no longer wanted."""

import threading
import time
from pathlib import Path

import psutil
import pytest

from cloformer_deploy.data import make_calibration
from cloformer_deploy.errors import RequestError, ToolError
from cloformer_deploy.exporting import running
from cloformer_deploy.exporting.jobs import Source
from cloformer_deploy.exporting.running import run
from cloformer_deploy.progress import Silent
from cloformer_deploy.system.subprocesses import own_process
from tests.exporting.small_jobs import job, source_of
from tests.tiny import tiny_checkpoint

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_of(tiny_checkpoint(), tmp_path_factory.mktemp("source"), 64)


@pytest.fixture(autouse=True)
def _cold_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers as users have them, not those of `tests.warm`."""
    monkeypatch.setattr(running, "own_process", own_process)


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "cloformer_deploy.exporting.worker" in child.cmdline()]


def test_one_that_fails_ends_the_others_at_once(source: Source, tmp_path: Path) -> None:
    refused = job(source, "onnx", "cpu", {"int8": tmp_path / "int8.onnx"}, calibration=tmp_path / "nowhere.safetensors")
    other = job(source, "onnx", "cpu", {"fp32": tmp_path / "made.onnx"})
    with pytest.raises(RequestError, match=r"nowhere\.safetensors"):
        run([refused, other], Silent())
    # A conversion takes longer than the import of torch that a refusal waits for.
    assert not (tmp_path / "made.onnx").exists()
    assert workers() == []


def test_a_crash_is_told_with_its_signal(source: Source, tmp_path: Path) -> None:
    raised: list[BaseException] = []

    def convert() -> None:
        try:
            run([job(source, "onnx", "cpu", {"fp32": tmp_path / "made.onnx"})], Silent())
        except ToolError as error:
            raised.append(error)

    thread = threading.Thread(target=convert)
    thread.start()
    while not (found := workers()):
        time.sleep(0.01)
    found[0].kill()
    thread.join()
    assert "the onnx converter was killed by SIGKILL" in str(raised[0])


class Steps(Silent):
    """Keeps the names of the steps that it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def step(self, text: str) -> None:
        self.told.append(text)


def test_jobs_that_need_ranges_measure_once(source: Source, tmp_path: Path) -> None:
    """Worth its 15 s: it runs real conversions of two formats."""
    calibration = tmp_path / "set.safetensors"
    make_calibration("rendered", 40, 0, source.preprocessing, calibration, Silent())
    paths = {"onnx": tmp_path / "made.onnx", "coreml": tmp_path / "made.mlpackage"}
    wanted = [
        job(source, name, target, {"int8": paths[name]}, calibration=calibration)
        for name, target in (("onnx", "cpu"), ("coreml", "ane"))
    ]
    told = Steps()
    onnx, coreml = run(wanted, told)
    assert [onnx[0].runtime, coreml[0].runtime] == ["onnxruntime", "coreml-interpreter"]
    assert min(onnx[0].sqnr_db, coreml[0].sqnr_db) > 20
    for step in ("Equalizing channels", "Measuring ranges"):
        assert [item for item in told.told if item.startswith(step)] == [f"{step} for coreml int8"]  # the longer one
    assert sum(item.startswith("Correcting biases") for item in told.told) == 2


def test_who_waits_for_ranges_does_not_wait_for_one_that_failed(source: Source, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.safetensors"
    wanted = [
        job(source, name, target, {"int8": tmp_path / name}, calibration=missing)
        for name, target in (("onnx", "cpu"), ("coreml", "ane"))
    ]
    with pytest.raises(RequestError, match=r"nowhere\.safetensors"):
        run(wanted, Silent())
    assert workers() == []
