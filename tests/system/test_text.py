"""Text from untrusted files is printed on one short line."""

from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.system.text import MAX_LENGTH, clipped, listed


@given(st.text(max_size=2 * MAX_LENGTH))
def test_any_text_is_printable_and_short(text: str) -> None:
    line = clipped(text)
    assert line.isprintable()
    assert len(line) <= MAX_LENGTH
    if text.isprintable() and len(text) <= MAX_LENGTH:
        assert line == text


def test_three_names_are_listed() -> None:
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", 1, "\x1b", "d"]) == "a, int, '\\x1b', ..."
    assert listed([]) == ""
