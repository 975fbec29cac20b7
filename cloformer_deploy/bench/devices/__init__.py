"""The registry of devices on which latency is measured.

To add a device: a file with a class that follows `base.Device` and a `base.Kind`, and an entry in `DEVICES`. The
command line, `doctor` and the documentation read the registry.
"""

from cloformer_deploy.bench.devices import adb, coreml, host, qai_hub, ssh
from cloformer_deploy.bench.devices.base import Answer, Device, Kind, Load, Measured, Options, Request
from cloformer_deploy.bench.devices.npu import NpuDevice
from cloformer_deploy.errors import RequestError
from cloformer_deploy.npu import NPUS

__all__ = ["DEVICES", "Answer", "Device", "Kind", "Load", "Measured", "Options", "Request", "open_device"]

DEVICES: dict[str, Kind] = {
    "host": host.KIND,
    "adb": adb.KIND,
    "ssh": ssh.KIND,
    "coreml": coreml.KIND,
    "qai-hub": qai_hub.KIND,
}


def open_device(text: str, options: Options) -> Device:
    """Return the device that `text` requests; nothing is connected to yet.

    Raises:
        RequestError: there is no such kind of device, or the text has not the kind's form.
    """
    if text in NPUS:
        return NpuDevice(NPUS[text])
    name, _, detail = text.partition(":")
    if name not in DEVICES:
        forms = ", ".join([*(kind.form for kind in DEVICES.values()), *NPUS])
        raise RequestError(f"the device {text!r} is not known", f"give --device one of {forms}")
    return DEVICES[name].parse(detail, options)
