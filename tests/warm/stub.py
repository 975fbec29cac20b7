"""A program that `export` starts in place of a worker: hands its pipes to a warm one, and ends as that one ends.

Stand-alone. Killed, it leaves no worker behind: its sockets close.
"""

import json
import os
import signal
import socket
import sys


def main(folder: str) -> None:
    """Read the job from standard input, and have it done."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1 << 16)
        if not piece:
            return
        line += piece
    form = json.loads(line)["format"]
    with socket.socket(socket.AF_UNIX) as root:
        root.connect(f"{folder}/root")
        root.sendall(form.encode())
        root.recv(1)  # the format's server listens
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(f"{folder}/{form}")
        asked = {"line": line.decode(), "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109 - pathlib takes long
        content = json.dumps(asked).encode()
        socket.send_fds(server, [len(content).to_bytes(8, "little")], [0, 1, 2])
        server.sendall(content)
        for descriptor in (0, 1):  # the worker alone holds them now
            os.close(descriptor)
        answer = server.recv(4)
    code = int.from_bytes(answer, "little", signed=True) if answer else -signal.SIGKILL
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
