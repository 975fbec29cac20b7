"""Files of class names: taken as they are, or refused with the form that is meant."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloformer_deploy.errors import RequestError
from cloformer_deploy.exporting.labels import read_labels
from cloformer_deploy.system.text import visible

FAMILY, RIGHT_TO_LEFT, FIXED_SPACE = "👩\u200d👩\u200d👧", "\u200fשלם (2)", "guinea\u00a0pig"


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "names",
    [
        ["tench", "goldfish"],
        [FAMILY, RIGHT_TO_LEFT],
        [FIXED_SPACE, "e\u0301clair"],
        ["0", "1"],
        ["7", "8 ball"],
        ["7 up", "tench"],
        ["tench, Tinca tinca", "goldfish, Carassius auratus"],
        ['"quoted" by some', "plain"],
        ["{}", "tench"],
        ["4x4", "2 doors"],
    ],
)
def test_names_are_taken(names: list[str], tmp_path: Path) -> None:
    assert read_labels(file(tmp_path, "\n".join(names) + "\n"), 2) == tuple(names)
    assert read_labels(file(tmp_path, "\ufeff" + "\r\n".join(names)), 2) == tuple(names)
    assert read_labels(file(tmp_path, json.dumps(names)), 2) == tuple(names)


@pytest.mark.parametrize(
    ("text", "shown", "meant"),
    [
        ("0: tench\n1: goldfish\n", "0: tench", "tench"),
        ("0 tench\n1 goldfish\n", "0 tench", "tench"),
        ("1. tench\n2. goldfish\n", "1. tench", "tench"),
        ("0\ttench\n1\tgoldfish\n", "tench", "tench"),
        ("0,tench\n1,goldfish\n", "0,tench", "tench"),
        ('"tench"\n"goldfish"\n', '"tench"', "tench"),
        ("'tench',\n'goldfish'\n", "'tench'", "tench"),
        ("id,name\n0,tench\n1,goldfish\n", "1,goldfish", "goldfish"),
        ("tench,0\ngoldfish,1\n", "goldfish,1", "goldfish"),
        ("n01440764,tench\nn01443537,goldfish\n", "goldfish", "goldfish"),
        ("n01440764;tench\nn01443537;goldfish\n", "goldfish", "goldfish"),
        ("n01440764 tench\nn01443537 goldfish\n", "n01440764 tench", "tench"),
        ("5: tench\n3: goldfish\n", "5: tench", "tench"),
        ("{0: 'tench, Tinca tinca',\n 1: 'goldfish'}", "0: 'tench, Tinca tinca'", "tench, Tinca tinca"),
        ("- tench\n- goldfish\n", "- tench", "tench"),
        ('{"0": "tench", "1": "goldfish"}', '{"0": "tench"}', '["tench", "goldfish", "..."]'),
        ('{"tench": 0, "goldfish": 1}', '{"tench": 0}', '["tench", "goldfish", "..."]'),
        ('["tench", 1]', "1", "JSON list of names"),
    ],
)
def test_another_form_is_refused_with_the_line_and_the_form(text: str, shown: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        read_labels(file(tmp_path, text), 2)
    assert shown in caught.value.message
    assert meant in caught.value.hint
    assert "one name per line" in caught.value.hint
    assert caught.value.exit_code == 2


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.lists(st.text(max_size=9)).map("\n".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_is_names_or_refused(tmp_path: Path, text: str) -> None:
    with suppress(RequestError):
        assert len(read_labels(file(tmp_path, text.encode(errors="replace").decode()), 2)) == 2


@pytest.mark.parametrize("name", ["a\x1bb", "a\tb", "a\x00", "\u200d", "a\u2028b", "a\x7f", "a\x85b"])
def test_controls_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="name 1 is") as caught:
        read_labels(file(tmp_path, json.dumps([name, "tench"])), 2)
    assert caught.value.message.isascii()


def test_other_faults_are_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="1 line, the model 2 classes"):
        read_labels(file(tmp_path, "tench\n"), 2)
    with pytest.raises(RequestError, match="'tench' is on lines 1 and 2"):
        read_labels(file(tmp_path, "tench\ntench\n"), 2)
    with pytest.raises(RequestError, match="line 2 is ''"):
        read_labels(file(tmp_path, "tench\n\ngoldfish\n"), 3)
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(RequestError, match="cannot be read"):
        read_labels(tmp_path / "latin", 1)


def test_direction_marks_are_seen_where_a_name_is_shown() -> None:
    assert visible(RIGHT_TO_LEFT) == "\\u200fשלם (2)"
    assert visible("a\u202eb\u2066c\u2069") == "a\\u202eb\\u2066c\\u2069"
    assert visible(FAMILY) == FAMILY
    assert visible(FIXED_SPACE) == FIXED_SPACE
