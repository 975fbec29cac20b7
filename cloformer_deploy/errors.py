"""The exceptions of this package, and the exit code of the command line for each.

    CloformerDeployError          base class; shown as message and hint, without a traceback
    ├── CheckFailedError       1  a check (validation, gate) failed
    ├── RequestError           2  the request or its input is wrong
    │   ├── CheckpointError       a weights file cannot be used
    │   ├── UnsupportedModelError a network of one's own cannot be traced, or has another interface than one image
    │   ├── DataError             an image, a folder of images or a calibration set cannot be used
    │   └── BundleError           a bundle or one of its artifacts cannot be used
    ├── MissingPartError       3  a part of the environment is missing
    └── ToolError              4  a converter, runtime or device failed

Any other exception that reaches the command line is a bug: exit code 70, with its traceback.
"""

EXIT_BUG = 70


class CloformerDeployError(Exception):
    """Base class of all errors that are shown to the user.

    Attributes:
        message: the problem, with the value that caused it.
        hint: the next step for the user.
        exit_code: of the command line.
    """

    exit_code = EXIT_BUG

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type["CloformerDeployError"], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class CheckFailedError(CloformerDeployError):
    """A check (validation, gate) found an artifact worse than its limits allow."""

    exit_code = 1


class RequestError(CloformerDeployError):
    """The request or its input is wrong."""

    exit_code = 2


class CheckpointError(RequestError):
    """A weights file cannot be used."""


class UnsupportedModelError(RequestError):
    """A network of one's own cannot be traced, or takes and returns something else than one image batch and tensors."""


class DataError(RequestError):
    """An image, a folder of images or a calibration set cannot be used."""


class BundleError(RequestError):
    """A bundle or one of its artifacts cannot be used."""


class MissingPartError(CloformerDeployError):
    """A part of the environment, such as a Python package, is missing; `hint` is the command that installs it."""

    exit_code = 3


class ToolError(CloformerDeployError):
    """A converter, runtime or device failed."""

    exit_code = 4
