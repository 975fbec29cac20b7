"""An Android device over adb: the genuine daemon, on TCP, and a genuine server and client in its network."""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.devices import host_root
from tests.devices.device import PARTS, Device
from tests.devices.namespaces import machine

ADB = PARTS / "amd64/usr/lib/android-sdk/platform-tools/adb"
ADBD = ADB.with_name("adbd")
PORT = 6555  # a server takes what listens on 5555 to 5585 for an emulator, too
SERVER_PORT = 5037


@contextlib.contextmanager
def android(folder: Path) -> Iterator[Device]:
    """Start it; `folder` is for what belongs to it alone."""
    serial = f"localhost:{PORT}"
    env = {"PATH": f"{ADB.parent}:{os.environ['PATH']}", "HOME": str(folder)}
    daemons = [
        f'chroot "$ROOT" /usr/bin/env -i PATH={shlex.quote(host_root.PATH)} HOME=/root ADBD_PORT={PORT} {ADBD}',
        # In the foreground, so that it ends with the machine.
        f"HOME={shlex.quote(str(folder))} {ADB} server nodaemon",
    ]
    with machine(host_root.LAYOUT, host_root.BINDS, daemons, folder) as started:

        def adb(*arguments: str) -> str:
            command = [*started.enter, str(ADB), *arguments]
            return subprocess.run(command, env={**os.environ, **env}, check=True, capture_output=True, text=True).stdout

        def connect() -> None:
            adb("connect", serial)
            adb("-s", serial, "wait-for-device")

        def drop() -> None:
            adb("disconnect", serial)
            connect()

        started.wait_for(lambda: started.listens(PORT) and started.listens(SERVER_PORT))
        connect()
        yield Device(
            device=f"adb:{serial}",
            python=sys.executable,
            command=started.enter,
            env=env,
            shell=["adb", "-s", serial, "shell", "-T"],
            temporary="/data/local/tmp",
            machine=started,
            daemons=frozenset(started.processes()),
            drop=drop,
        )
