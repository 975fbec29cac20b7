"""Optional packages: whether they are there, their versions, and what to say when they are not."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from cloformer_deploy.errors import MissingPartError


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
