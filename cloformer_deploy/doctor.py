"""`doctor`: the packages, formats, runtimes, devices and bundled weights of this machine. Imports none of them."""

import platform
from dataclasses import dataclass
from itertools import groupby

from cloformer_deploy import __version__
from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bench.devices import DEVICES, Kind
from cloformer_deploy.errors import CloformerDeployError, MissingPartError
from cloformer_deploy.npu import NPUS, Npu
from cloformer_deploy.system.cores import usable_cores
from cloformer_deploy.system.packages import install_command, installed_version
from cloformer_deploy.weights.zoo import bundled_checkpoints

BASE_PACKAGES = ("torch", "numpy", "pillow", "safetensors", "pydantic", "scipy", "typer", "rich")


@dataclass(frozen=True)
class Part:
    """One part and whether it works here: `detail` has versions or the lack, `remedy` the command that installs it."""

    name: str
    ready: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Survey:
    """Everything that `doctor` shows."""

    tool_version: str
    python: str
    system: str
    extras: tuple[Part, ...]
    runtimes: tuple[Part, ...]
    devices: tuple[Part, ...]
    weights: tuple[str, ...]


def survey() -> Survey:
    """Survey this machine."""
    return Survey(
        tool_version=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}, {usable_cores()} cores",
        extras=(
            _packages("base", BASE_PACKAGES, "pip install cloformer-deploy"),
            *(_packages(item.extra, item.packages, install_command(item.extra)) for item in BACKENDS.values()),
            _packages("report", ("jinja2", "matplotlib"), install_command("report")),
            _packages("ray", ("ray",), install_command("ray")),
        ),
        runtimes=tuple(
            _part(runtime.title, runtime.missing(), f"runs {backend.name}")
            for backend in BACKENDS.values()
            for runtime in backend.runtimes
        ),
        devices=(
            *(_part(kind.form, _lack(kind), kind.title) for kind in DEVICES.values()),
            *(_npus(list(family)) for _, family in groupby(NPUS.values(), key=type)),
        ),
        weights=tuple(bundled_checkpoints()),
    )


def _packages(extra: str, packages: tuple[str, ...], remedy: str) -> Part:
    versions = {package: installed_version(package) for package in packages}
    lacking = [package for package, version in versions.items() if version is None]
    if lacking:
        return Part(extra, ready=False, detail=f"missing: {', '.join(lacking)}", remedy=remedy)
    return Part(extra, ready=True, detail=", ".join(f"{package} {version}" for package, version in versions.items()))


def _npus(family: list[Npu]) -> Part:
    """Return NPUs that one compiler serves."""
    names = f"{family[0].name} ... {family[-1].name}"
    return _part(names, family[0].missing(), "compiled" + (" and simulated" if family[0].simulator else "") + " here")


def _lack(kind: Kind) -> MissingPartError | None:
    try:
        kind.check()
    except MissingPartError as error:
        return error
    return None


def _part(name: str, lack: CloformerDeployError | None, detail: str) -> Part:
    return Part(name, ready=True, detail=detail) if lack is None else Part(name, False, lack.message, lack.hint)
