"""Errors that the runtimes of all formats raise alike."""

from cloformer_deploy.backends.base import Feed
from cloformer_deploy.errors import MissingPartError, ToolError
from cloformer_deploy.system.packages import require


def package_missing(*modules: str, extra: str) -> MissingPartError | None:
    """Return the error that `packages.require` raises, as a value; None where nothing is missing."""
    try:
        require(*modules, extra=extra)
    except MissingPartError as error:
        return error
    return None


def run_failed(runtime: str, feed: Feed, cause: Exception) -> ToolError:
    """Return the error of a runtime that failed on a feed."""
    fed = ", ".join(f"{name} {values.dtype} {values.shape}" for name, values in feed.items())
    return ToolError(f"{runtime} failed on the input {fed}: {cause}", "export it again")
