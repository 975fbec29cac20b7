"""Where latency is measured: one module a device, all behind one Protocol, in one registry.

Adding a device: a module with a class that follows `base.Device`, whose `parse` takes what follows the name, and an
entry in `DEVICES`. The command line, `doctor` and the documentation read the registry.
"""

from collections.abc import Callable
from typing import NamedTuple

from cloformer_deploy.bench.devices import adb, coreml, qai_hub, ssh
from cloformer_deploy.bench.devices.base import Answer, Device, Load, Measured, Options, Request
from cloformer_deploy.bench.devices.host import Host
from cloformer_deploy.errors import RequestError

__all__ = ["DEVICES", "Answer", "Device", "Kind", "Load", "Measured", "Options", "Request", "open_device"]


class Kind(NamedTuple):
    """A kind of device: how one is asked for, what it is, what raises MissingPartError, and what opens it."""

    form: str
    title: str
    check: Callable[[], None]
    parse: Callable[[str, Options], Device]


DEVICES: dict[str, Kind] = {
    "host": Kind("host", "this machine", lambda: None, Host.parse),
    "adb": Kind(adb.FORM, "an Android device, over adb", adb.check, adb.Adb.parse),
    "ssh": Kind(ssh.FORM, "a board, over ssh", ssh.check, ssh.Ssh.parse),
    "coreml": Kind(coreml.FORM, "this Mac, or an iPhone or iPad attached to it", coreml.check, coreml.CoreML.parse),
    "qai-hub": Kind(qai_hub.FORM, "a phone hosted by Qualcomm", qai_hub.check, qai_hub.QaiHub.parse),
}


def open_device(text: str, options: Options) -> Device:
    """The device that `text` asks for; nothing is connected to yet.

    Raises:
        RequestError: there is no such kind of device, or it is not asked for in its form.
    """
    name, _, detail = text.partition(":")
    if name not in DEVICES:
        forms = ", ".join(kind.form for kind in DEVICES.values())
        raise RequestError(f"--device {text!r} is not a known device", f"give one of {forms}")
    return DEVICES[name].parse(detail, options)
