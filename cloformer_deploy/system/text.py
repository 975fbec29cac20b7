"""Text from untrusted files and names of files, made safe to print."""

import codecs
import json
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

MAX_LENGTH = 80
"""Characters of a clipped text, at most."""
VISIBLE = "cloformer-deploy.visible"
"""Handler of encoding errors that writes what `visible` does in place of characters that the encoding lacks."""
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters without a glyph that change the order in which those around them are shown."""
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of controls, parts of pairs (which stand for bytes of names that are not UTF-8), line ends."""


def visible(text: str, keep: str = "\n\t") -> str:
    r"""Return a text in which nothing controls the terminal or page that shows it.

    Controls, line ends, direction marks and bytes that are not UTF-8 are shown as escapes: `\x1b`, `\u202e`, `\xff`.

    Args:
        text: any.
        keep: controls that stay.
    """
    if text.isprintable():
        return text
    return "".join(char if char in keep or not _is_hidden(char) else _escaped(char) for char in text)


def is_name(text: str) -> bool:
    """Tell whether a text can name a class: one line without controls, of which something is seen."""
    seen = any(unicodedata.category(char) not in ("Cf", "Zs") for char in text)
    return seen and not any(unicodedata.category(char) in _CONTROLS for char in text)


def json_text(answer: Mapping[str, Any]) -> str:
    """Return an answer as JSON in ASCII; bytes of names that are not UTF-8 are shown as `visible` does."""
    return json.dumps(_encodable(answer), indent=2, allow_nan=False)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors=VISIBLE).decode()
    if isinstance(value, Mapping):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value


def _is_hidden(char: str) -> bool:
    return char in _DIRECTIONS or unicodedata.category(char) in _CONTROLS


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte, as Python decodes names of files
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def _encoding_error(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escaped, error.object[error.start : error.end])), error.end


codecs.register_error(VISIBLE, _encoding_error)


def clipped(text: str) -> str:
    """Return the text as one line in which everything is visible, of at most `MAX_LENGTH` characters."""
    line = visible(text, keep="")
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
