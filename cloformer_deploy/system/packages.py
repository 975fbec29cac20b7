"""Packages: what ships inside this one, and which optional ones are there or what to say when they are not."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from cloformer_deploy.errors import MissingPartError


def shipped_folder(name: str) -> Path:
    """A folder of files that ship: inside the package in a wheel, at the repository's root in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / name
    return packaged if packaged.is_dir() else package.parent / name


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, without importing it; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def install_command(extra: str) -> str:
    """The command that brings an extra of this package."""
    return f"pip install 'cloformer-deploy[{extra}]'"


def require(*modules: str, extra: str) -> None:
    """Check that modules can be found, without importing them.

    Raises:
        MissingPartError: one cannot; the hint is the command that installs it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingPartError(f"the Python package {', '.join(missing)} is not installed", install_command(extra))
