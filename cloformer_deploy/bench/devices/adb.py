"""An Android device, or another that runs adbd: the runner if it has a Python with a runtime, else benchmark_model."""

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from cloformer_deploy.bench.devices import benchmark_model
from cloformer_deploy.bench.devices.base import Answer, Kind, Options, Request
from cloformer_deploy.bench.devices.remote import Connection, measure_there
from cloformer_deploy.errors import MissingPartError, RequestError, ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.packages import install_command

FORM = "adb[:SERIAL]"
ADB_S = 30.0
"""Time limit of an adb command, which may have to start the server, seconds."""
_SERIAL = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9_.:\[\]-]*")
_NETWORK = re.compile(r".+:[0-9]+")
_ADVICE = {
    "unauthorized": "unlock it, and allow this computer",
    "offline": "unplug it and plug it in again, or run: adb reconnect",
}


def check() -> None:
    """See `Kind.check`."""
    adb_program(None)


class Adb:
    """See `Device`."""

    def __init__(self, serial: str | None, options: Options) -> None:
        self.name = "adb" if serial is None else f"adb:{serial}"
        self._serial = serial
        self._options = options

    @classmethod
    def parse(cls, detail: str, options: Options) -> "Adb":
        """Make the device from a serial number, which may be HOST:PORT, or from nothing."""
        if detail and not _SERIAL.fullmatch(detail):
            raise RequestError(f"{detail!r} is not a serial number of adb", f"give --device {FORM}; see adb devices")
        return cls(detail or None, options)

    def measure(self, request: Request, progress: Progress) -> Answer:
        """See `Device.measure`."""
        program = adb_program(self._options.adb)
        serial = self._chosen(program)
        # Without a pseudo-terminal, bytes are not changed, and the exit code and standard error come through.
        connection = Connection(self.name, (program, "-s", serial, "shell", "-T"))
        try:
            return measure_there(connection, self._options.python, request, progress)
        except MissingPartError as lack:
            return benchmark_model.measure(connection, self._options, lack, request, progress)

    def _chosen(self, program: str) -> str:
        """Return the requested serial number, or that of the only device."""
        there = _devices(program)
        if self._serial is not None and there.get(self._serial) != "device" and _NETWORK.fullmatch(self._serial):
            if self._serial in there:  # offline: the server keeps a connection that is lost
                _adb(program, "disconnect", self._serial)
            _adb(program, "connect", self._serial)
            there = _devices(program)
        ready = [serial for serial, state in there.items() if state == "device"]
        listed = ", ".join(f"{serial} ({state})" for serial, state in there.items()) or "none"
        if self._serial is None and len(ready) == 1:
            return ready[0]
        if self._serial is None:
            problem = "more than one device is attached" if ready else "no attached device is ready"
            raise RequestError(f"{problem}: {listed}", "connect one, or name one with --device adb:SERIAL")
        state = there.get(self._serial)
        if state is None:
            raise ToolError(f"no device {self._serial} is attached; attached: {listed}", "connect it; see adb devices")
        if state != "device":
            raise ToolError(f"the device {self._serial} is {state}", _ADVICE.get(state, "see adb devices"))
        return self._serial


def adb_program(given: Path | None) -> str:
    """Return the adb program: the given one, one on PATH, or the one in the package adbutils.

    Raises:
        RequestError: the given one cannot be run.
        MissingPartError: there is none.
    """
    if given is not None:
        if not os.access(given, os.X_OK) or given.is_dir():
            raise RequestError(f"{given} is not a program", "give the path of adb with --adb")
        return str(given)
    found = shutil.which("adb")
    if found is not None:
        return found
    package = find_spec("adbutils")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        inside = Path(folder, "binaries", "adb")
        if os.access(inside, os.X_OK):
            return str(inside)
    raise MissingPartError("adb is not installed", f"install Android's platform-tools, or: {install_command('adb')}")


def _devices(program: str) -> dict[str, str]:
    """Return the state of each attached device by serial number."""
    lines = _adb(program, "devices").splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def _adb(program: str, *arguments: str) -> str:
    try:
        ran = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=ADB_S, check=False)
    except subprocess.TimeoutExpired:
        raise ToolError(f"adb {arguments[0]} did not answer", "run: adb kill-server") from None
    except OSError as error:
        raise ToolError(f"{program} cannot be run: {error.strerror}", "give another with --adb") from error
    if ran.returncode:
        last = (ran.stderr or ran.stdout).strip().splitlines()[-1:]
        raise ToolError(f"adb {arguments[0]} failed: {' '.join(last)}", "run: adb kill-server")
    return ran.stdout


KIND = Kind(FORM, "an Android device, over adb", check, Adb.parse)
