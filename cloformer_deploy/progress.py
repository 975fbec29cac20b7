"""Progress reports: the library never prints, it calls a `Progress`, which the command line displays."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Receiver of the reports of long work."""

    def step(self, text: str) -> None:
        """Report the start of a step of unknown length.

        Args:
            text: describes the step, for the user.
        """
        ...

    def advance(self, done: int, total: int) -> None:
        """Report that `done` of `total` items of the current step are finished."""
        ...

    def warn(self, text: str) -> None:
        """Report a problem that the user should know about, although the work continues."""
        ...

    def lane(self) -> AbstractContextManager["Progress"]:
        """Return a context manager that gives a Progress of its own to one of several parallel pieces of work."""
        ...


class Silent:
    """A Progress that ignores all reports."""

    def step(self, text: str) -> None:
        """Ignore the report."""

    def advance(self, done: int, total: int) -> None:
        """Ignore the report."""

    def warn(self, text: str) -> None:
        """Ignore the warning."""

    def lane(self) -> AbstractContextManager[Progress]:
        """Return a context manager that gives this object."""
        return nullcontext(self)
