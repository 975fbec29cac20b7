"""Linux boards over ssh: this system behind a genuine sshd, and an emulated ARM64 board behind its own."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.devices import host_root
from tests.devices.device import PARTS, Device
from tests.devices.namespaces import Machine, machine

PORT = 2222
FILES = "/run/device"  # where a board has its keys and configuration
OPENSSH = PARTS / "amd64/usr/lib/openssh"
QEMU = PARTS / "amd64/usr/bin/qemu-aarch64"
ARM64 = PARTS / "arm64"
CPU = "cortex-a76"  # the default, with SVE, is slower
# The header of an ELF file for AArch64, and which bits of it count (qemu's scripts/qemu-binfmt-conf.sh). F: the
# emulator is opened now, so that it is found from within the board's root. Registered for this user namespace alone.
AARCH64 = (
    r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
)
ARM_LAYOUT = f"""
mount --bind {shlex.quote(str(ARM64))} "$ROOT"
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
printf %s {shlex.quote(f":qemu-aarch64:M::{AARCH64}:{QEMU}:F")} > /proc/sys/fs/binfmt_misc/register
mount -o remount,bind,ro "$ROOT"
"""


@contextlib.contextmanager
def ssh_host(folder: Path) -> Iterator[Device]:
    """Start this system as a board; `folder` is for what belongs to it alone."""
    paths = f"SshdSessionPath {OPENSSH}/sshd-session\nSshdAuthPath {OPENSSH}/sshd-auth\n"
    sshd = PARTS / "amd64/usr/sbin/sshd"
    # Not /tmp, where a checkout may be, and the parts and the Python with it.
    temporary = "/var/tmp"
    remote_env = {"PATH": host_root.PATH, "TMPDIR": temporary}
    with _board(host_root.LAYOUT, host_root.BINDS, str(sshd), remote_env, paths, folder) as (board, env):
        yield _device(board, env, sys.executable, temporary)


@contextlib.contextmanager
def arm_board(folder: Path) -> Iterator[Device]:
    """Start the emulated ARM64 board; `folder` is for what belongs to it alone."""
    with _board(ARM_LAYOUT, {}, "/usr/sbin/sshd", {"QEMU_CPU": CPU}, "", folder) as (board, env):
        yield _device(board, env, "/usr/bin/python3", "/tmp")


@contextlib.contextmanager
def _board(
    layout: str, binds: Mapping[str | Path, str], sshd: str, remote_env: Mapping[str, str], settings: str, folder: Path
) -> Iterator[tuple[Machine, dict[str, str]]]:
    """A machine with a listening sshd, and the environment in which plain `ssh board` reaches it."""
    files, client = folder / "files", folder / "bin"
    files.mkdir()
    client.mkdir()
    uid, gid = os.geteuid(), os.getegid()
    user = "root" if uid == 0 else "tester"
    (files / "passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\nnobody:x:65534:65534::/tmp:/bin/false\n"
        + (f"{user}:x:{uid}:{gid}::/tmp:/bin/sh\n" if uid else "")
    )
    (files / "group").write_text("root:x:0:\nnogroup:x:65534:\n" + (f"{user}:x:{gid}:\n" if uid else ""))
    for key in (files / "host_key", folder / "key"):
        keygen = PARTS / "amd64/usr/bin/ssh-keygen"
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
    (files / "authorized_keys").write_text((folder / "key.pub").read_text())
    (files / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {PORT}\nHostKey {FILES}/host_key\nAuthorizedKeysFile {FILES}/authorized_keys\n"
        "AuthenticationMethods publickey\nStrictModes no\nPidFile none\nPrintMotd no\n"
        f"SetEnv {' '.join(f'{name}={value}' for name, value in remote_env.items())}\n{settings}"
    )
    names = ("board", f"[localhost]:{PORT}", f"[127.0.0.1]:{PORT}")
    (folder / "known_hosts").write_text(f"{','.join(names)} {(files / 'host_key.pub').read_text()}")
    (folder / "config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  HostKeyAlias board\n  Port {PORT}\n"
        f"Host *\n  User {user}\n  IdentityFile {folder}/key\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile none\n"
    )
    # ssh reads the configuration of the user that the system knows, whatever HOME says.
    ssh = PARTS / "amd64/usr/bin/ssh"
    (client / "ssh").write_text(
        f'#!/bin/sh\nexec {shlex.quote(str(ssh))} -F {shlex.quote(str(folder / "config"))} "$@"\n'
    )
    (client / "ssh").chmod(0o755)

    everything = {**binds, files: FILES, files / "passwd": "/etc/passwd", files / "group": "/etc/group"}
    # sshd sheds root by setgroups(2), which a lone user may not call: it then runs as that user.
    shed = f"unshare --user --map-user={uid} --map-group={gid} --keep-caps " if uid else ""
    daemon = f'{shed}chroot "$ROOT" /usr/bin/env -i QEMU_CPU={CPU} {sshd} -D -e -f {FILES}/sshd_config'
    with machine(layout, everything, [f'mkdir "$ROOT/run/sshd"\n{daemon}'], folder) as board:
        board.wait_for(lambda: board.listens(PORT))
        yield board, {"PATH": f"{client}:{os.environ['PATH']}"}


def _device(board: Machine, env: dict[str, str], python: str, temporary: str) -> Device:
    def drop() -> None:
        for process, arguments in board.processes().items():
            if any("sshd-session" in argument for argument in arguments[:2]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    return Device(
        device="ssh://board",
        python=python,
        command=board.enter,
        env=env,
        shell=["ssh", "-T", "-o", "BatchMode=yes", "board"],
        temporary=temporary,
        machine=board,
        daemons=frozenset(board.processes()),
        drop=drop,
    )
