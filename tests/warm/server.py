"""The process that forks warm workers: `python -m tests.warm.server FOLDER`, until its standard input ends.

It loads torch, and forks a server for each format that is asked for, which loads the converter and forks a worker for
each job. A process that is forked has one thread, so nothing that starts threads may be loaded before.
"""

import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloformer_deploy.exporting import worker
from cloformer_deploy.system.packages import hidden
from tests.warm import ROOT_SOCKET

COMMON = (
    "cloformer_deploy.networks.cloformer",
    "cloformer_deploy.validation",
    "cloformer_deploy.weights.checkpoints",
    "networkx",
    "scipy.stats",
    "torch._dynamo",
    "torch._functorch.aot_autograd",
    "torch.export",
)
MODULES = {
    "onnx": ("onnx", "onnxscript.function_libs.torch_lib.ops", "onnxscript.rewriter", "onnxsim", "torch.onnx"),
    "coreml": ("coremltools", "cloformer_deploy.backends.coreml.interpreter"),
    "tflite": ("litert_torch", "ai_edge_quantizer.quantizer", "scipy.spatial"),
}


def serve(path: Path, handle: Callable[[socket.socket], None], ready: Callable[[], object]) -> None:
    """Call `handle` with each connection to a socket, until standard input ends."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    ready()
    while True:
        sources: list[Any] = [listening, 0]
        waiting, _, _ = select.select(sources, [], [])
        if 0 in waiting:
            os._exit(0)
        connection, _ = listening.accept()
        with connection:
            handle(connection)


def load(form: str) -> None:
    """Import the converter as its backend does."""
    import torch  # noqa: F401

    from cloformer_deploy.backends.coreml.format import FOREIGN

    with hidden(*FOREIGN if form == "coreml" else ()):
        for name in (*MODULES.get(form, ()), *COMMON):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def start_worker(connection: socket.socket) -> None:
    """Fork a process that has the job done by another, and passes the exit code on."""
    if os.fork():
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    content, size = b"", int.from_bytes(head, "little")
    while len(content) < size:
        content += connection.recv(size - len(content))
    child = os.fork()
    if not child:
        run(json.loads(content), descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    ended = os.pidfd_open(child)
    sources: list[Any] = [ended, connection]
    waiting, _, _ = select.select(sources, [], [])
    if ended not in waiting:  # the stub was killed
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    try:
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))
    finally:
        os._exit(0)


class Input(io.StringIO):
    """Standard input whose first line was read already."""

    def read(self, size: int | None = -1) -> str:
        """Wait for the end of the pipe."""
        while os.read(0, 1 << 16):
            pass
        return ""


def run(asked: dict[str, Any], descriptors: list[int]) -> None:
    """Be the worker."""
    import torch

    code = 1
    try:
        for place, descriptor in enumerate(descriptors):
            os.dup2(descriptor, place)
            os.close(descriptor)
        sys.stdin = Input(asked["line"])
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        worker.main()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(folder: Path) -> None:
    """Serve until standard input ends."""
    import torch  # noqa: F401 - the servers share it

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    started: set[str] = set()

    def ensure(connection: socket.socket) -> None:
        form = connection.recv(64).decode()
        if form not in started:
            started.add(form)
            read, write = os.pipe()
            if not os.fork():
                os.close(read)
                connection.close()
                load(form)
                serve(folder / form, start_worker, lambda: os.close(write))
            os.close(write)
            os.read(read, 1)  # until it listens, or has died
            os.close(read)
        connection.sendall(b"1")

    serve(folder / ROOT_SOCKET, ensure, lambda: os.write(1, b"ready\n"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
