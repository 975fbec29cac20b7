"""What can go wrong, as a tree, and the exit code each kind ends with.

    CloformerDeployError          message and next step; never shown with a traceback
    ├── CheckFailedError       1  a check (validation, gate) found the export worse than allowed
    ├── RequestError           2  the request or its input is wrong
    │   ├── CheckpointError       a weights file cannot be used
    │   ├── DataError             a image or a folder of images cannot be used
    │   └── BundleError           a bundle or one of its artifacts cannot be used
    ├── MissingPartError       3  a part of the environment is missing
    └── ToolError              4  a converter, runtime or device failed

Anything else that reaches the command line is a bug: exit code 70, with its traceback.
"""

EXIT_BUG = 70


class CloformerDeployError(Exception):
    """The root: `message` says what was wrong, with the value; `hint` what to do next."""

    exit_code = EXIT_BUG

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class CheckFailedError(CloformerDeployError):
    """A check found the export worse than allowed."""

    exit_code = 1


class RequestError(CloformerDeployError):
    """The request or its input is wrong."""

    exit_code = 2


class CheckpointError(RequestError):
    """A weights file cannot be used."""


class DataError(RequestError):
    """A image or a folder of images cannot be used."""


class BundleError(RequestError):
    """A bundle or one of its artifacts cannot be used."""


class MissingPartError(CloformerDeployError):
    """A part of the environment is missing; `hint` is the command that installs it."""

    exit_code = 3


class ToolError(CloformerDeployError):
    """A converter, runtime or device failed."""

    exit_code = 4
