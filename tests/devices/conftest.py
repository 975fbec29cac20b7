"""Devices that are really there, each started once a session. `make test` fetches what they are made of."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.devices import boards
from tests.devices.android import android as start_android
from tests.devices.device import PARTS, Device
from tests.devices.namespaces import ForbiddenError

STARTED: list[Device] = []
"""The devices that run now."""


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    """Clear the devices after each test, once the commands that used them are ended, so that one failure stays one."""
    yield
    for device in STARTED:
        device.clear()


@pytest.fixture(scope="session")
def android(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """An Android device over adb."""
    yield from _started(start_android, tmp_path_factory)


@pytest.fixture(scope="session")
def ssh_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A Linux board over ssh, as fast as this machine."""
    yield from _started(boards.ssh_host, tmp_path_factory)


@pytest.fixture(scope="session")
def arm_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """An ARM64 Linux board over ssh, emulated: imports take seconds, and its times are never latencies."""
    yield from _started(boards.arm_board, tmp_path_factory)


def _started(
    start: Callable[[Path], AbstractContextManager[Device]], folders: pytest.TempPathFactory
) -> Iterator[Device]:
    if not (PARTS / ".installed").exists():
        # Where they can be had, a continuous integration without them has failed to fetch them.
        if os.environ.get("CI") and (platform.system(), platform.machine()) == ("Linux", "x86_64"):
            pytest.fail(f"{PARTS} is missing, which `make test` fetches")
        pytest.skip(f"needs the parts in {PARTS}, which `make test` fetches")
    try:
        with start(folders.mktemp("device")) as device:
            STARTED.append(device)
            yield device
            STARTED.remove(device)
    except ForbiddenError as error:
        pytest.skip(f"a machine in namespaces of its own is not allowed here: {error}")
