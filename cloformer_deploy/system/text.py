"""Text from untrusted files, made safe to print."""

from collections.abc import Iterable
from typing import Any

MAX_LENGTH = 80
"""Characters of a clipped text, at most."""


def clipped(text: str) -> str:
    """Return the text as one line of printable characters, at most `MAX_LENGTH` of them."""
    line = text if text.isprintable() else ascii(text)
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 3]}..."


def listed(names: Iterable[Any]) -> str:
    """Return the first three names, each clipped, with an ellipsis if there are more.

    Keys of an untrusted dictionary may be of any type: of those that are not text only the type is given.
    """
    first = [clipped(name) if isinstance(name, str) else type(name).__name__ for name in names]
    return ", ".join(first[:3]) + (", ..." if len(first) > 3 else "")


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a number and what it counts: 1 class, 2 classes."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"
