"""Files with which `bench` opens artifacts on a device."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Opener:
    """A stand-alone Python file, sent beside the runner, with which `bench` opens files of a format on a device.

    Attributes:
        path: file that defines `open_file(path, threads, unit)`, which returns a function from a dictionary of input
            arrays to a dictionary of output arrays. Python 3.8, numpy and the runtime only.
        modules: Python modules that run the format; the first that can be imported is used. The first of all is that of
            the format's first runtime.
        packages: what to install with pip on a device that lacks them.
        units: compute units to measure on, from the narrowest choice to the widest, which is what apps use that ask for
            none; (None,) where there is no choice.
        system: the only `platform.system()` that can run the format; None is any.
        check: is called with a file before it is opened or sent; raises `BundleError` for one that would have its
            runtime read other files, `ToolError` for one that cannot be read. None for formats without references.
    """

    path: Path
    modules: tuple[str, ...]
    packages: str
    units: tuple[str | None, ...] = field(default=(None,))
    system: str | None = None
    check: Callable[[Path], None] | None = None
