"""Installed Python packages, and the data files that are distributed with this one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from cloformer_deploy.errors import MissingPartError


def shipped_folder(name: str) -> Path:
    """Return a folder of data files: inside the package in a wheel, at the repository's root in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / name
    return packaged if packaged.is_dir() else package.parent / name


def installed_version(package: str) -> str | None:
    """Return the version of an installed distribution, without importing it; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def install_command(extra: str) -> str:
    """Return the shell command that installs an optional part (an "extra") of this package."""
    return f"pip install 'cloformer-deploy[{extra}]'"


def require(*modules: str, extra: str) -> None:
    """Check that modules are installed, without importing them.

    Args:
        modules: top-level module names.
        extra: the optional part of this package that installs them.

    Raises:
        MissingPartError: a module is missing; the hint is the command that installs it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        packages = "Python package" if len(missing) == 1 else "Python packages"
        verb = "is" if len(missing) == 1 else "are"
        raise MissingPartError(f"the {packages} {', '.join(missing)} {verb} not installed", install_command(extra))


@contextmanager
def hidden(*modules: str) -> Iterator[None]:
    """Make modules that are not imported yet look as if they were not installed, in this process.

    Some packages import on the way whatever else they have an interface to, which can take longer than all they do.
    """
    new = [module for module in modules if module not in sys.modules]
    sys.modules.update(dict.fromkeys(new))  # type: ignore[arg-type] # None is what the import system takes for it
    try:
        yield
    finally:
        for module in new:
            del sys.modules[module]
