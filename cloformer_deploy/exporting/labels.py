"""Reading files of class names."""

import csv
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from cloformer_deploy.errors import RequestError
from cloformer_deploy.system.text import clipped, counted, is_name

FORM = "one name per line in the order of the model's classes, or a JSON list of names"
_NUMBERED = re.compile(r"\{?\s*(\d{1,9})(\s*[:,;=.)|\t]\s*|\s+)(\S.*)")
_CODED = re.compile(r"(?:[nvars]\d{8}[\s,:;]|[-*•]\s)\s*(\S.*)")
_AROUND = " ,;'\"{}"
"""Characters around a name in the notation of a program."""
_QUOTES = ('""', "''", "“”", "„“", "«»", "``")
_MANY = 0.8
"""Share of lines of one form that tells that the file has that form, and not that a class has such a name."""


def read_labels(path: Path, num_classes: int | None) -> tuple[str, ...]:
    """Read class names from a UTF-8 file: one per line, or a JSON list, in the order of the model's classes.

    Args:
        path: the file.
        num_classes: how many there must be; None takes any number.

    Raises:
        RequestError: unreadable, of another form, a wrong number of names, one that cannot be shown, or that occurs
            twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"the labels file {path} cannot be read: {error}", "give a UTF-8 text file") from error
    in_json = text.lstrip()[:1] in ("[", "{") and _is_json(text)
    labels, unit = (_of_json(path, text), "name") if in_json else (_of_lines(path, text), "line")
    if num_classes is not None and len(labels) != num_classes:
        told = counted(len(labels), unit)
        raise RequestError(f"{path} has {told}, the model {num_classes} classes", f"give {FORM}")
    places: dict[str, int] = {}
    for index, label in enumerate(labels):
        if not is_name(label):
            raise RequestError(f"{path}: {unit} {index + 1} is {label!a}", "give every class a name without controls")
        if label in places:
            twice = f"'{clipped(label)}' is on {unit}s {places[label] + 1} and {index + 1}"
            raise RequestError(f"{path}: {twice}", "make the names unique")
        places[label] = index
    return labels


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _of_json(path: Path, text: str) -> tuple[str, ...]:
    found: Any = json.loads(text)
    if isinstance(found, dict):
        key, value = next(iter(found.items()), ("", ""))
        first = clipped(json.dumps({key: value}, ensure_ascii=False))
        raise RequestError(f"{path} is a JSON object, which begins {first}", f"give {FORM}: {_example(found)}")
    if not isinstance(found, list):
        raise RequestError(f"{path} is JSON, but no list", f"give {FORM}")
    wrong = next((item for item in found if not isinstance(item, str)), None)
    if wrong is not None:
        raise RequestError(f"{path} is a JSON list with {clipped(json.dumps(wrong))} in it", f"give {FORM}")
    return tuple(found)


def _example(found: dict[str, Any]) -> str:
    """Return the list that an object of names by number, or of numbers by name, would be."""
    names = [value for value in found.values() if isinstance(value, str)] or list(found)
    return clipped(json.dumps([*names[:2], "..."], ensure_ascii=False))


def _of_lines(path: Path, text: str) -> tuple[str, ...]:
    lines = [line.strip() for line in text.rstrip("\r\n").split("\n")] if text.strip() else []
    for wrong, form in (
        (_numbered, "numbered"),
        (_csv, "CSV"),
        (_coded, "items of a list or have codes"),
        (_quoted, "quoted"),
    ):
        found = wrong(lines)
        if found is not None:
            index, meant = found
            raise RequestError(
                f"{path}: the lines are {form}: line {index + 1} is {clipped(lines[index])}",
                f"give {FORM}; line {index + 1} would be: {clipped(meant)}",
            )
    return tuple(lines)


def _numbered(lines: Sequence[str]) -> tuple[int, str] | None:
    """Find lines such as `0: tench`; and `0 tench`, where the numbers count up, as a name may begin with a number."""
    found = [_NUMBERED.fullmatch(line) for line in lines]
    matches = [match for match in found if match]
    numbers = [int(match[1]) for match in matches]
    marked = all(match[2].strip() for match in matches) and len(set(numbers)) == len(numbers)
    counted_up = numbers[:1] in ([0], [1]) and all(after == before + 1 for before, after in pairwise(numbers))
    if len(matches) < max(1, _MANY * len(lines)) or not (marked or counted_up):
        return None
    return next((index, match[3].strip(_AROUND)) for index, match in enumerate(found) if match)


def _coded(lines: Sequence[str]) -> tuple[int, str] | None:
    """Find lines such as `n01440764 tench`, with the codes of WordNet, and items of a list such as `- tench`."""
    found = [_CODED.fullmatch(line) for line in lines]
    if sum(match is not None for match in found) < max(1, _MANY * len(lines)):
        return None
    return next((index, match[1].strip(_AROUND)) for index, match in enumerate(found) if match)


def _quoted(lines: Sequence[str]) -> tuple[int, str] | None:
    """Find lines such as `"tench"`, `'tench',`."""
    bare = [line.rstrip(",;").strip() for line in lines]
    found = [len(line) > 2 and line[0] + line[-1] in _QUOTES for line in bare]
    if sum(found) < max(1, _MANY * len(lines)):
        return None
    index = found.index(True)
    return index, bare[index][1:-1]


def _csv(lines: Sequence[str]) -> tuple[int, str] | None:
    """Find lines of several fields, such as `n01440764,tench` or `tench,0`."""
    for mark in ("\t", ";", ","):
        try:
            rows = [next(csv.reader([line], delimiter=mark), []) for line in lines]
        except csv.Error:  # a field of a length that none has
            continue
        widths = {len(row) for row in rows}
        if len(widths) == 1 and widths != {1} and widths != {0} and _is_table(mark, rows):
            name = max(range(len(rows[-1])), key=lambda column: _letters(rows, column))
            return len(rows) - 1, rows[-1][name].strip()
    return None


def _is_table(mark: str, rows: Sequence[Sequence[str]]) -> bool:
    """Tell rows of fields from names with commas, such as `tench, Tinca tinca`: a column has numbers or codes alone."""
    body = rows[1:] or rows
    return mark != "," or any(
        all(re.fullmatch(r"\s*(?:\d+|[a-z]\d{6,})\s*", row[column]) for row in body) for column in range(len(rows[0]))
    )


def _letters(rows: Sequence[Sequence[str]], column: int) -> int:
    return sum(char.isalpha() for row in rows[-20:] for char in row[column])
