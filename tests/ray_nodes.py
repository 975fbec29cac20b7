"""A real Ray cluster of several nodes on this machine, started as people start one: with `ray start`."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from cloformer_deploy.validation.workers.cluster import _token
from tests.processes import MARK, Processes, eventually

_NODE = "CLOFORMER_DEPLOY_TEST_NODE"
_RAY = str(Path(sys.executable).with_name("ray"))
_HIDE = 'for path in $HIDDEN; do mount -t tmpfs none "$path"; done; exec "$0" "$@"'


class RayCluster:
    """The cluster: a head without cores, which this machine's drivers are on, and nodes.

    Args:
        folder: for what Ray writes; its path is short.
        mark: of the processes, see `Processes`.
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self._folder, self._processes = folder, Processes(mark)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token(), "RAY_USAGE_STATS_ENABLED": "0"}
        port = self.address.rpartition(":")[2]
        quick = '{"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_timeout_ms": 2000}'
        head = (f"--port={port}", "--num-cpus=0", f"--temp-dir={folder}", "--include-dashboard=false")
        self._start("head", "--head", *head, f"--system-config={quick}")

    def add(
        self, name: str, cores: int = 1, *, env: Mapping[str, str] | None = None, hidden: Sequence[Path] = ()
    ) -> None:
        """Start a node, which runs with more variables, and to which some folders look empty.

        One at a time: two that start together may choose the same socket.
        """
        self._start(
            name, f"--address={self.address}", f"--num-cpus={cores}", f"--node-name={name}", env=env, hidden=hidden
        )

    def _start(
        self, name: str, *arguments: str, env: Mapping[str, str] | None = None, hidden: Sequence[Path] = ()
    ) -> None:
        ports = ("--node-ip-address=127.0.0.1", "--min-worker-port=0", "--max-worker-port=0")
        command = [_RAY, "start", *arguments, *ports, "--object-store-memory=100000000", "--disable-usage-stats"]
        own = {**self.environment, **(env or {}), MARK: self._processes.mark, _NODE: name}
        if hidden:
            own["HIDDEN"] = " ".join(map(str, hidden))
            as_root = () if os.getuid() == 0 else ("--user", "--map-root-user")
            command = ["unshare", *as_root, "--mount", "sh", "-euc", _HIDE, *command]
        done = subprocess.run(
            command, env={**os.environ, **own}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def kill(self, name: str) -> None:
        """Kill all processes of a node at once."""
        mine = [item for item in self._processes.alive() if item.environ().get(_NODE) == name]
        assert any("raylet" in item.name() for item in mine)
        for item in mine:
            item.kill()
        assert eventually(lambda: not any(map(_lives, mine)))

    def end(self) -> None:
        """Kill what is left."""
        self._processes.end()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
