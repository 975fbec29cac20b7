"""A machine of its own on this one: user, network, mount and process namespaces around one daemon.

Its network is a loopback of its own, its process 1 ends with the test run however that ends, and everything in it ends
with process 1. Root maps all users into it; an ordinary user is its only user, root within.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("ip", "mount", "nsenter", "unshare")
# The line that is read says that the identity maps are written; what follows on stdin is only ever its end.
ENTER = 'read -r _; exec unshare --mount --net --pid --fork --kill-child=KILL sh -euc "$0"'
SYSTEM = """
ip link set lo up
mkdir -p "$ROOT/dev" "$ROOT/proc" "$ROOT/root" "$ROOT/run" "$ROOT/sys" "$ROOT/tmp"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount --rbind /sys "$ROOT/sys"
mount -t tmpfs -o mode=755 tmpfs "$ROOT/run"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
mount -t tmpfs -o mode=700 tmpfs "$ROOT/root"
bind() {  # source, target on the machine
  if [ -d "$1" ]; then mkdir -p "$ROOT$2"; else [ -e "$ROOT$2" ] || : > "$ROOT$2"; fi
  mount --rbind "$1" "$ROOT$2"
}
"""
# Process 1 waits for the end of its stdin and reaps, as a shell does, what its children leave.
WAIT = "\ncat > /dev/null\n"
START_S = 20


class ForbiddenError(Exception):
    """This kernel or machine does not allow what a machine of its own needs; the text says what."""


@dataclass(frozen=True)
class Machine:
    """A started machine; `process` is its outermost process, outside its process namespace but inside the others."""

    process: subprocess.Popen[bytes]
    root: str  # as its process 1 names it
    log: Path

    @property
    def enter(self) -> list[str]:
        """The prefix of a command that is to use its network."""
        return [*self._nsenter, "--net", "--"]

    def path(self, path: str) -> Path:
        """Return the path by which this process reaches a path on the machine."""
        return Path(f"/proc/{self.process.pid}/root{self.root}{path}")

    def processes(self) -> dict[int, list[str]]:
        """The arguments of all that runs on it, zombies left out, by this system's process numbers."""
        here = Path(f"/proc/{self.process.pid}/ns/pid_for_children").readlink()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            # Processes end meanwhile, and others' are not ours to read.
            with contextlib.suppress(OSError):
                if (folder / "ns" / "pid").readlink() == here:
                    arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                    if arguments:  # a zombie has none
                        found[int(folder.name)] = arguments
        return found

    def listens(self, port: int) -> bool:
        """Tell whether a process of the machine accepts TCP connections on a port."""
        lines = ""
        with contextlib.suppress(OSError):  # it ended
            for table in ("tcp", "tcp6"):
                lines += Path(f"/proc/{self.process.pid}/net/{table}").read_text()
        return re.search(rf":{port:04X} [0-9A-F]+:0000 0A ", lines) is not None

    @contextlib.contextmanager
    def small_disk(self, folder: str, size: str) -> Iterator[None]:
        """Put a file system of `size` (as mount's `size=`) over a folder of the machine."""
        mounted = f"{self.root}{folder}"
        within = [*self._nsenter, "--mount", "--"]
        options = f"mode=1777,size={size}"
        subprocess.run([*within, "mount", "-t", "tmpfs", "-o", options, "tmpfs", mounted], check=True)
        try:
            yield
        finally:
            subprocess.run([*within, "umount", "--lazy", mounted], check=True)

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait until it is ready.

        Raises:
            ForbiddenError: the machine ended before, as it does when a mount is refused.
            TimeoutError: it is not ready after START_S seconds.
        """
        deadline = time.monotonic() + START_S
        while not ready():
            if self.process.poll() is not None:
                raise ForbiddenError(self.log.read_text(errors="replace").strip())
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready after {START_S} s:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.05)

    @property
    def _nsenter(self) -> list[str]:
        return ["nsenter", f"--target={self.process.pid}", "--user", "--preserve-credentials"]


@contextlib.contextmanager
def machine(layout: str, binds: Mapping[str | Path, str], daemons: Sequence[str], folder: Path) -> Iterator[Machine]:
    """Start a machine, and end it and all that runs on it.

    Args:
        layout: shell commands that lay out the root in `$ROOT`, an empty folder.
        binds: files and folders of this system, and where the machine has them.
        daemons: shell commands that run in the foreground, each started in the background.
        folder: for the root's mount point and the daemons' log.

    Raises:
        ForbiddenError: a namespace or a mount is refused, or a tool is missing.
    """
    for tool in TOOLS:
        if shutil.which(tool) is None:
            raise ForbiddenError(f"`{tool}` is not on PATH")
    root, log = folder / "root", folder / "log"
    root.mkdir()
    boot = f"ROOT={shlex.quote(str(root))}\n{layout}{SYSTEM}"
    boot += "".join(f"bind {shlex.quote(str(source))} {shlex.quote(target)}\n" for source, target in binds.items())
    boot += "".join(f"{daemon} < /dev/null &\n" for daemon in daemons) + WAIT
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["unshare", "--user", "sh", "-euc", ENTER, boot], stdin=subprocess.PIPE, stdout=output, stderr=output
        )
    with process:
        started = Machine(process, str(root), log)
        try:
            # Until then the process is still in this namespace.
            ours, its = Path("/proc/self/ns/user").readlink(), Path(f"/proc/{process.pid}/ns/user")
            started.wait_for(lambda: its.readlink() != ours)
            _map_identities(process.pid)
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            yield started
        finally:
            # Process 1 gets this as the signal of its parent's death, and whatever it runs goes with it.
            process.send_signal(signal.SIGKILL)


def _map_identities(process: int) -> None:
    folder = Path(f"/proc/{process}")
    try:
        if os.geteuid() == 0:
            (folder / "uid_map").write_text("0 0 65536")
            (folder / "gid_map").write_text("0 0 65536")
        else:
            (folder / "setgroups").write_text("deny")
            (folder / "uid_map").write_text(f"0 {os.geteuid()} 1")
            (folder / "gid_map").write_text(f"0 {os.getegid()} 1")
    except OSError as error:
        raise ForbiddenError(f"identities cannot be mapped into a user namespace: {error}") from error
