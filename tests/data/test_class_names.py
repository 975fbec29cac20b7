"""Folders are matched with classes by name; an order that is in doubt is refused."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloformer_deploy.data.class_names import class_indices, comparable, natural
from cloformer_deploy.errors import DataError

ROOT = Path("data")
LABELS = ("Tench", "english springer", "Café", "straße", "T-shirt")


def refusal(names: list[str], num_classes: int, labels: tuple[str, ...] | None) -> DataError:
    with pytest.raises(DataError) as caught:
        class_indices(ROOT, names, num_classes, labels)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize(
    "names",
    [
        list(LABELS),
        ["TENCH", "English_Springer", unicodedata.normalize("NFD", "café"), "STRASSE", "t_shirt"],
        ["tench", "english-springer", "Café ", "straße", "t  shirt"],
    ],
)
def test_case_form_and_separators_make_no_difference(names: list[str]) -> None:
    for shift in range(len(names)):
        turned = names[shift:] + names[:shift]
        assert class_indices(ROOT, turned, 5, LABELS) == [(index + shift) % 5 for index in range(5)]


def test_some_classes_may_be_absent() -> None:
    assert class_indices(ROOT, ["t-shirt", "tench"], 5, LABELS) == [4, 0]


def test_other_names_are_listed_beside_the_labels() -> None:
    error = refusal(["dog", "tench"], 5, LABELS)
    assert "1 of 2 sub-folders of data are not named like labels of the model: dog" in error.message
    assert "labels without a folder: english springer, Café, straße, T-shirt" in error.message
    assert "all 5" not in error.message
    refusal(["a", "b", "c", "d", "e"], 5, LABELS)


def test_labels_that_differ_in_case_alone_need_exact_names() -> None:
    labels = ("a b", "A_b")
    assert class_indices(ROOT, ["A_b", "a b"], 2, labels) == [1, 0]
    assert "a-b" in refusal(["a-b"], 2, labels).message


def test_two_folders_of_one_class() -> None:
    assert "two sub-folders for 'Tench'" in refusal(["TENCH", "tench"], 5, LABELS).message


@pytest.mark.parametrize(
    ("names", "sorted_wrongly"),
    [
        (sorted(map(str, range(20))), "10"),
        (sorted(f"class{index}" for index in range(1, 21)), "class10"),
        (["B", "a"], "B"),
    ],
)
def test_an_order_in_doubt_needs_labels(names: list[str], sorted_wrongly: str) -> None:
    error = refusal(names, len(names), None)
    assert repr(sorted_wrongly) in error.message
    assert "--labels" in error.hint


def test_without_labels_the_number_must_be_right() -> None:
    assert class_indices(ROOT, ["0", "1", "2"], 3, None) == [0, 1, 2]
    for names in (["0", "1"], ["0", "1", "2", "3"]):
        error = refusal(names, 3, None)
        assert f"{len(names)} sub-folders, the model 3 classes" in error.message
        assert "--labels" in error.hint


@given(st.text(), st.sampled_from(["NFC", "NFD", "upper", "spaces"]))
def test_names_that_differ_in_form_compare_equal(name: str, change: str) -> None:
    changed = {
        "NFC": unicodedata.normalize("NFC", name),
        "NFD": unicodedata.normalize("NFD", name),
        "upper": name.swapcase() if name.isascii() else name,
        "spaces": name.replace(" ", "_").replace("-", " "),
    }[change]
    assert comparable(changed) == comparable(name)


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_numbers_sort_as_numbers(numbers: list[int]) -> None:
    names = sorted((f"class{number}" for number in numbers), key=natural)
    assert names == [f"class{number}" for number in sorted(numbers)]


def test_one_logit_is_for_the_folder_of_its_label(tmp_path: Path) -> None:
    assert class_indices(tmp_path, ["Hot-Dog", "other", "pizza"], 1, ["hot dog"]) == [1, 0, 0]
    with pytest.raises(DataError, match=r"one logit.*not known: no, yes"):
        class_indices(tmp_path, ["no", "yes"], 1, None)
    with pytest.raises(DataError, match=r"0 sub-folders of .* are named like .* 'cat'"):
        class_indices(tmp_path, ["no", "yes"], 1, ["cat"])
