"""`bench` on devices that are really there, end to end, and what is left of it when things go wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloformer_deploy.bench import Protocol
from cloformer_deploy.bench.devices import Request
from cloformer_deploy.bench.devices.remote import UNPACK, Connection, measure_there, sent
from cloformer_deploy.bench.measure import load
from cloformer_deploy.bundle import MANIFEST_NAME, Bundle
from cloformer_deploy.errors import ToolError
from cloformer_deploy.progress import Silent
from tests.bench.conftest import FAST, SLOW, MakeBundle, make_bundle, onnx_bundle
from tests.devices.device import PARTS, Device
from tests.processes import Processes, eventually

__all__ = ["make_bundle", "onnx_bundle"]
pytestmark = pytest.mark.integration

RUNNER = r"^[^ ]*python[0-9.]* runner\.py measure"
"""Matches the runner's command line, and not that of the shell which started it, where this comes later."""


@pytest.fixture(params=["android", "ssh_host"])
def device(request: pytest.FixtureRequest) -> Device:
    found: Device = request.getfixturevalue(request.param)
    assert not found.processes()
    assert not list(found.scratch.iterdir())
    return found


@pytest.fixture
def bundle(onnx_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(onnx_bundle.root, tmp_path / "bundle")))


@pytest.fixture
def connection(device: Device, monkeypatch: pytest.MonkeyPatch) -> Connection:
    for name, value in device.env.items():
        monkeypatch.setenv(name, value)
    return Connection(device.device, (*device.command, *device.shell))


Bench = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def command(processes: Processes) -> Bench:
    """`command(device, bundle, *options)`: start `bench --json` on a device."""

    def start(device: Device, bundle: Bundle, *options: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-m", "cloformer_deploy", "bench", str(bundle.root), "--json"]
        words += ["--device", device.device, "--python", device.python, *options]
        return processes.start([*device.command, *words], env={**os.environ, **device.env})

    return start


def answered(process: "subprocess.Popen[str]", code: int) -> Any:
    out, err = process.communicate(timeout=180)
    assert process.returncode == code, err
    return json.loads(out)


def running(device: Device) -> None:
    """Wait until the runner there has workers, and its files."""
    assert eventually(lambda: sum("runner.py worker" in line for line in device.processes()) == 2), device.processes()
    assert list(device.scratch.glob("cloformer-bench.*/runner.py"))


def nothing_left(device: Device) -> None:
    assert eventually(lambda: not device.processes()), device.processes()
    assert not list(device.scratch.iterdir())


def test_two_files(device: Device, bundle: Bundle, command: Bench) -> None:
    answer = answered(command(device, bundle), 0)
    found = {item["path"]: item for item in answer["results"]}
    for path in (SLOW, FAST):
        item = found[path]
        assert (item["status"], item["source"], item["device"]) == ("measured", "device", device.device)
        assert item["n"] >= 100
        assert item["p99_ms"] >= item["p50_ms"] > 0
        # The same processor, the same runtime: the same logits, to the bit.
        assert item["max_abs_diff"] == 0
    assert found[FAST]["speedup"] > 2
    nothing_left(device)


def test_a_device_that_fails_costs_no_other_its_results(ssh_host: Device, bundle: Bundle, command: Bench) -> None:
    answer = answered(command(ssh_host, bundle, "--device", "ssh://nowhere.invalid", "--device", "host"), 4)
    assert {item["device"] for item in answer["results"]} == {ssh_host.device, "host"}
    (error,) = answer["errors"]
    assert error["device"] == "ssh://nowhere.invalid"
    assert error["code"] == 4
    nothing_left(ssh_host)


def test_killed_runner(device: Device, bundle: Bundle, command: Bench) -> None:
    process = command(device, bundle, "--mlperf")
    running(device)
    device.run(f"pkill -KILL -f '{RUNNER}'")
    error = answered(process, 4)["error"]
    assert "was killed" in error["message"]
    assert "memory" in error["hint"]
    nothing_left(device)


def test_lost_connection(device: Device, bundle: Bundle, command: Bench) -> None:
    process = command(device, bundle, "--mlperf")
    running(device)
    device.drop()
    error = answered(process, 4)["error"]
    assert device.device in error["message"]
    nothing_left(device)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(device: Device, bundle: Bundle, how: signal.Signals, command: Bench) -> None:
    process = command(device, bundle, "--mlperf")
    running(device)
    # What runs inside the device's network is below the prefix that led there.
    subprocess.run(["pkill", f"-{how.name[3:]}", "-f", f"cloformer_deploy bench {bundle.root}"], check=True)
    process.communicate(timeout=60)
    assert process.returncode != 0
    nothing_left(device)


def test_time_out(device: Device, bundle: Bundle, command: Bench) -> None:
    answer = answered(command(device, bundle, "--mlperf", "--timeout", "4"), 4)
    assert {(item["status"], item["reason"]) for item in answer["results"]} == {("failed", "no answer in time")}
    nothing_left(device)


def test_hung_runner(ssh_host: Device, bundle: Bundle, command: Bench) -> None:
    process = command(ssh_host, bundle, "--mlperf", "--timeout", "4")
    running(ssh_host)
    ssh_host.run(f"pkill -STOP -f '{RUNNER}'")
    error = answered(process, 4)["error"]
    assert "took too long" in error["message"] or "was killed" in error["message"]
    nothing_left(ssh_host)


def test_full_disk(device: Device, bundle: Bundle, command: Bench) -> None:
    with device.small_disk():
        error = answered(command(device, bundle), 4)["error"]
        assert "disk" in error["message"]
        assert "is full" in error["message"]
        nothing_left(device)


def test_disk_that_fills_up_meanwhile(device: Device, connection: Connection) -> None:
    with (
        device.small_disk(),
        pytest.raises(ToolError, match="is full"),
        sent(connection, UNPACK + "ls", {"large": bytes(3_000_000)}, 60) as lines,
    ):
        list(lines)
    nothing_left(device)


def test_runtime_missing(device: Device, bundle: Bundle, command: Bench) -> None:
    # The device's own Python has no packages.
    error = answered(command(device, bundle, "--python", "/usr/bin/python3"), 3)["error"]
    assert "numpy" in error["message"]
    assert "pip install" in error["hint"] or "--benchmark-binary" in error["hint"]
    error = answered(command(device, bundle, "--python", "python9"), 3)["error"]
    assert "python9" in error["message"]
    nothing_left(device)


def test_changed_on_the_way(device: Device, connection: Connection, bundle: Bundle) -> None:
    """The other side compares checksums."""
    slow, fast = (load(bundle, item) for item in bundle.manifest.artifacts)
    other = replace(slow, artifact=slow.artifact.model_copy(update={"sha256": "0" * 64}))
    request = Request((other, fast), 1, None, Protocol(1, 0, 5, 0), 60)
    found = measure_there(connection, device.python, request, Silent()).measured
    assert [item.status for item in found] == ["failed", "measured"]
    assert found[0].reason == "ValueError: it did not arrive as it was sent"
    nothing_left(device)


def test_a_program_for_another_processor(android: Device, make_bundle: MakeBundle, command: Bench) -> None:
    other = PARTS / "arm64/usr/bin/true"
    tflite = make_bundle({"cloformer_xxs-fp32.tflite": b"anything"})
    asked = ("--python", "python9", "--benchmark-binary")
    error = answered(command(android, tflite, *asked, str(other)), 2)["error"]
    assert "aarch64" in error["message"]
    # One that runs there and is no benchmark: the script around it does all of its work.
    echo = shutil.which("echo")
    assert echo is not None
    answer = answered(command(android, tflite, *asked, echo), 4)
    (item,) = answer["results"]
    assert item["status"] == "failed"
    assert "--graph=cloformer_xxs-fp32.tflite" in item["reason"]
    nothing_left(android)


def test_arm_board(arm_board: Device, tiny_bundle: Bundle, tmp_path: Path, command: Bench) -> None:
    """Numbers, not times. Of logits over 10: where attention is float, rounding may move an integer by a step."""
    integers = tuple(item for item in tiny_bundle.manifest.artifacts if item.precision == "int8")
    copied = Path(shutil.copytree(tiny_bundle.root, tmp_path / "bundle"))
    (copied / MANIFEST_NAME).write_text(
        tiny_bundle.manifest.model_copy(update={"artifacts": integers}).model_dump_json()
    )
    bundle = Bundle.open(copied)
    answer = answered(command(arm_board, bundle), 0)
    found = {item["format"]: item for item in answer["results"]}
    assert "aarch64" in found["onnx"]["machine"]
    assert {item["source"] for item in answer["results"]} == {"emulated"}
    assert found["coreml"]["status"] == "not_executed"
    for name in ("onnx", "tflite"):
        assert found[name]["status"] == "measured"
    assert found["onnx"]["max_abs_diff"] <= 0.1
    assert found["tflite"]["max_abs_diff"] <= 1e-4
    nothing_left(arm_board)


def test_emulated_times_are_not_shown(arm_board: Device, bundle: Bundle) -> None:
    words = [sys.executable, "-m", "cloformer_deploy", "bench", str(bundle.root), "--device", arm_board.device]
    shown = subprocess.run(
        [*arm_board.command, *words], env={**os.environ, **arm_board.env}, capture_output=True, text=True, timeout=180
    )
    assert shown.returncode == 0, shown.stderr
    assert "emulated" in shown.stdout
    assert "No latency is given" in shown.stdout
    assert "p50" not in shown.stdout
    nothing_left(arm_board)
