"""Text from untrusted files, made safe to print."""

from collections.abc import Iterable
from typing import Any

MAX_LENGTH = 80


def clipped(text: str) -> str:
    """Return one line of printable characters, at most `MAX_LENGTH` long, whatever a file put into the text."""
    line = text if text.isprintable() else ascii(text)
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 3]}..."


def listed(names: Iterable[Any]) -> str:
    """Return the first three names, clipped, with an ellipsis where there are more; of what is no text, the type."""
    first = [clipped(name) if isinstance(name, str) else type(name).__name__ for name in names]
    return ", ".join(first[:3]) + (", ..." if len(first) > 3 else "")
