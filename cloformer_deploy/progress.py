"""How the library says what it is doing: it never prints, it tells a `Progress`, which the command line renders."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """What long work reports to."""

    def step(self, text: str) -> None:
        """A step of unknown length has begun."""
        ...

    def advance(self, done: int, total: int) -> None:
        """`done` of `total` items of the current step are finished."""
        ...

    def warn(self, text: str) -> None:
        """Something the user should know, although the work goes on."""
        ...

    def lane(self) -> AbstractContextManager["Progress"]:
        """Where one of several works that go on side by side reports to, until it ends."""
        ...


class Silent:
    """Reports nothing."""

    def step(self, text: str) -> None:
        """See `Progress.step`."""

    def advance(self, done: int, total: int) -> None:
        """See `Progress.advance`."""

    def warn(self, text: str) -> None:
        """See `Progress.warn`."""

    def lane(self) -> AbstractContextManager[Progress]:
        """See `Progress.lane`."""
        return nullcontext(self)
