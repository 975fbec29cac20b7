"""The devices that other tests stand on do what real ones do."""

import hashlib
import os
import subprocess

import pytest

from tests.devices.device import Device
from tests.processes import eventually

pytestmark = pytest.mark.integration
KINDS = ("android", "ssh_host", "arm_board")


@pytest.fixture(params=KINDS)
def device(request: pytest.FixtureRequest) -> Device:
    found: Device = request.getfixturevalue(request.param)
    return found


def test_a_command_has_an_exit_code_and_two_outputs(device: Device) -> None:
    done = device.run("echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_bytes_arrive_as_they_were_sent(device: Device) -> None:
    sent = os.urandom(5_000_000)
    assert device.run("sha256sum", sent).stdout.split()[0].decode() == hashlib.sha256(sent).hexdigest()
    assert device.run("cat", sent).stdout == sent


def test_the_tools_of_a_bare_system_are_there(device: Device) -> None:
    missing = device.run(
        "for tool in sh tar timeout mktemp sha256sum python3; do command -v $tool || echo no $tool >&2; done"
    )
    assert (missing.returncode, missing.stderr) == (0, b"")


def test_what_is_written_is_seen_in_scratch(device: Device) -> None:
    before = set(device.scratch.iterdir())
    made = device.run("mktemp -d").stdout.decode().strip()
    assert [f"{device.temporary}/{path.name}" for path in set(device.scratch.iterdir()) - before] == [made]
    device.run(f"rmdir {made}")
    assert set(device.scratch.iterdir()) == before


def test_python_has_the_runtimes(device: Device) -> None:
    imports = "import numpy, onnxruntime, ai_edge_litert.interpreter, platform"
    done = device.run(f'"{device.python}" -c "{imports}; print(platform.machine())"')
    machine = b"aarch64" if device.python == "/usr/bin/python3" else b"x86_64"
    assert (done.returncode, done.stdout.strip()) == (0, machine), done.stderr


def test_the_project_is_not_on_the_device(device: Device) -> None:
    done = device.run(f'"{device.python}" -c "import cloformer_deploy.errors"')
    assert (done.returncode, b"ModuleNotFoundError" in done.stderr) == (1, True)


def test_a_full_disk_is_full(device: Device) -> None:
    before = list(device.scratch.iterdir())
    with device.small_disk():
        done = device.run("head -c 3000000 /dev/zero > $(mktemp)")
        assert b"No space left on device" in done.stderr
    assert list(device.scratch.iterdir()) == before
    assert device.run("file=$(mktemp); head -c 3000000 /dev/zero > $file; rm $file").stderr == b""


def test_what_runs_is_listed_until_the_connection_is_dropped(device: Device) -> None:
    command = [*device.command, *device.shell, "echo started; cat; echo ended"]
    with subprocess.Popen(
        command, env={**os.environ, **device.env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"started\n"
        assert any("cat" in line for line in device.processes())
        device.drop()
        # adb's exit code is 0 then: only what a command wrote at its end says that it came there.
        assert client.stdout.read() == b""
    assert eventually(lambda: not device.processes()), device.processes()
    assert device.run("echo again").stdout == b"again\n"


def test_the_board_is_emulated_and_shows_it(arm_board: Device) -> None:
    shown = arm_board.run("uname -m; cat /proc/sys/kernel/arch /sys/devices/system/cpu/modalias").stdout.splitlines()
    assert (shown[0], shown[1], shown[2][:12]) == (b"aarch64", b"x86_64", b"cpu:type:x86")
