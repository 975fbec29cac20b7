"""A board, server or phone that ssh reaches, by plain ssh with the user's own configuration, keys and agent."""

import re
import shutil

from cloformer_deploy.bench.devices.base import Answer, Kind, Options, Request
from cloformer_deploy.bench.devices.remote import Connection, measure_there
from cloformer_deploy.errors import MissingPartError, RequestError
from cloformer_deploy.progress import Progress

FORM = "ssh://[USER@]HOST[:PORT]"
# ssh never prompts, and notices a dead connection within half a minute. `-T`: no pseudo-terminal, which changes bytes.
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=10", "ServerAliveCountMax=3", "LogLevel=ERROR")
_HOST = re.compile(
    r"(?:([A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(?::([0-9]{1,5}))?"
)


def check() -> None:
    """See `Kind.check`."""
    if shutil.which("ssh") is None:
        raise MissingPartError("ssh is not installed", "install OpenSSH's client")


class Ssh:
    """See `Device`."""

    def __init__(self, user: str | None, host: str, port: str | None, python: str) -> None:
        self.name = "ssh://" + (f"{user}@" if user else "") + host + (f":{port}" if port else "")
        self._python = python
        options = [part for option in _OPTIONS for part in ("-o", option)]
        port_options = ["-p", port] if port else []
        destination = (f"{user}@" if user else "") + host.strip("[]")
        self._connection = Connection(self.name, ("ssh", "-T", *options, *port_options, "--", destination))

    @classmethod
    def parse(cls, detail: str, options: Options) -> "Ssh":
        """Make the device from `//[USER@]HOST[:PORT]`; the host may be an alias of ~/.ssh/config."""
        # The form lets nothing through that ssh would take for an option, or a shell for more than a name.
        found = _HOST.fullmatch(detail.removeprefix("//").rstrip("/")) if detail.startswith("//") else None
        if found is None:
            raise RequestError(f"'ssh:{detail}' does not name a host", f"give --device {FORM}")
        return cls(found[1], found[2], found[3], options.python)

    def measure(self, request: Request, progress: Progress) -> Answer:
        """See `Device.measure`."""
        check()
        return measure_there(self._connection, self._python, request, progress)


KIND = Kind(FORM, "a board, over ssh", check, Ssh.parse)
