"""Text from untrusted files, and names that are not UTF-8, are shown without controlling what shows them."""

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.system.text import MAX_LENGTH, VISIBLE, clipped, json_text, listed, visible

ANY = st.text(st.characters(), max_size=2 * MAX_LENGTH)
"""Any text, also with surrogates."""


@given(ANY)
def test_any_text_is_one_short_line(text: str) -> None:
    line = clipped(text)
    assert len(line.splitlines()) <= 1
    assert len(line) <= MAX_LENGTH
    if text.isprintable() and len(text) <= MAX_LENGTH:
        assert line == text


@given(ANY)
def test_what_is_visible_controls_nothing(text: str) -> None:
    shown = visible(text)
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") and char not in "\n\t"]
    assert not [char for char in shown if unicodedata.bidirectional(char) in ("RLE", "LRE", "RLO", "LRO", "RLI", "LRI")]
    shown.encode()


@given(st.binary())
def test_bytes_of_a_name_are_seen(name: bytes) -> None:
    text = name.decode(errors="surrogateescape")
    assert json.loads(json_text({"path": text}))["path"].encode() == text.encode(errors=VISIBLE)
    json_text({text: [text]}).encode("ascii")


def test_a_byte_that_is_no_text_is_shown_as_python_writes_it() -> None:
    assert visible("caf\udce9") == r"caf\xe9"
    assert json.loads(json_text({"path": "caf\udce9"})) == {"path": r"caf\xe9"}
    assert "caf\udce9 ✓".encode("latin-1", errors=VISIBLE) == rb"caf\xe9 \u2713"


def test_three_names_are_listed() -> None:
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", 1, "\x1b", "d"]) == "a, int, \\x1b, ..."
    assert listed([]) == ""
