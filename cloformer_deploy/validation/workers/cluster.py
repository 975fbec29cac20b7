"""Start Ray on this machine, or join a cluster, and leave nothing behind."""

import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import cache
from io import StringIO
from typing import Any, TextIO, cast

from cloformer_deploy.errors import RequestError, ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.cores import usable_cores
from cloformer_deploy.system.packages import require

_OBJECT_STORE_BYTES = 256 * 2**20
"""Memory for what is sent to workers on this machine; these see every file."""
_ANSWERS_WITHIN_S = 10.0
_SHORT_FOLDER = "/tmp"  # noqa: S108 - names of sockets must be short; the folder in it is private
_JOIN = "make this machine a node of the cluster: ray start --address=HOST:PORT, with the same Python and Ray"
_RAY_PRINTS = "ray_listen_error_messages"
_QUIET = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}


@contextmanager
def joined(address: str | None, progress: Progress) -> Iterator[str]:
    """Have Ray ready within the context.

    It reports nothing to its makers and opens no dashboard.

    Args:
        address: HOST:PORT of a cluster that this machine is a node of; None starts one here, of this machine alone,
            that ends with the context.
        progress: receives each step.

    Returns:
        HOST:PORT of the cluster.

    Raises:
        MissingPartError: Ray is not installed.
        RequestError: the address is none.
        ToolError: the cluster cannot be reached or joined.
    """
    require("ray", extra="ray")
    with _environment({"RAY_USAGE_STATS_ENABLED": "0"}):
        if address is None:
            progress.step("Starting Ray on this machine")
            token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}  # else Ray keeps one in the home folder
            with tempfile.TemporaryDirectory(prefix="ray-", dir=_SHORT_FOLDER) as folder, _environment(token):
                own = {
                    "address": "local",
                    "num_cpus": usable_cores(),
                    "object_store_memory": _OBJECT_STORE_BYTES,
                    "_node_ip_address": "127.0.0.1",
                    "_temp_dir": folder,
                }
                with _session("Ray cannot be started on this machine", "see what ray start --head says", own) as at:
                    yield at
        else:
            progress.step(f"Joining the Ray cluster at {address}")
            _check(address)
            with _session(f"the Ray cluster at {address} cannot be joined", _JOIN, {"address": address}) as at:
                yield at


@contextmanager
def _session(problem: str, hint: str, options: Mapping[str, Any]) -> Iterator[str]:
    import ray

    own_thread = threading.current_thread() is threading.main_thread()
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options, **_QUIET)
    except Exception as error:  # from ConnectionError to plain Exception
        ray.shutdown()
        raise ToolError(f"{problem}: {' '.join(str(error).split())}", hint) from error
    if own_thread:
        signal.signal(signal.SIGTERM, on_termination)  # Ray sets its own
    try:
        with redirect_stdout(cast(TextIO, _WithoutRay(sys.stdout))):
            yield ray.get_runtime_context().gcs_address
    finally:
        with redirect_stdout(StringIO()):  # where it prints what is left
            ray.shutdown()


class _WithoutRay:
    """Standard output without what Ray prints there from a thread when a node is lost, for which it has no switch."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name == _RAY_PRINTS else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _check(address: str) -> None:
    """Check that something listens, for Ray itself tries for a minute."""
    parts = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):([0-9]{1,5})", address)
    if parts is None:
        raise RequestError(f"{address!r} is no address of a Ray cluster", "give HOST:PORT, such as 10.0.0.1:6379")
    try:
        socket.create_connection((parts[1].strip("[]"), int(parts[2])), _ANSWERS_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        hint = "start one with ray start --head on one machine, and ray start --address=HOST:PORT on the others"
        raise ToolError(f"no Ray cluster answers at {address}: {error}", hint) from error


@cache
def _token() -> str:
    """Return the secret of clusters that this process starts; Ray reads it once."""
    return secrets.token_hex(32)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
