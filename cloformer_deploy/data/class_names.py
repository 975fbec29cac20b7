"""Matching of folder names with a model's classes: by name, and by position only where no order is in doubt."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from cloformer_deploy.errors import DataError
from cloformer_deploy.system.text import clipped

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "holdout"})
"""Names of folders that hold a part of a data set each, not a class (`dev` and `eval` among others may be classes)."""
_SHOWN = 6


def comparable(name: str) -> str:
    """Return a name without the differences of Unicode form, case, `_`, `-` and space."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return re.sub(r"[\s_-]+", " ", folded).strip()


def natural(name: str) -> list[tuple[int, int | str]]:
    """Return a key by which `class2` sorts before `class10`, whatever the case."""
    parts = re.split(r"(\d+)", unicodedata.normalize("NFC", name).casefold())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def check_no_splits(root: Path, names: Sequence[str]) -> None:
    """Raise a DataError if sub-folders are the parts of a data set, not classes."""
    if len(names) > 1 and {name.casefold() for name in names} <= SPLITS:
        first = next((name for name in names if name.casefold().startswith(("val", "test"))), names[0])
        raise DataError(
            f"{root} has a folder for each split ({', '.join(names)}), not for each class", f"give {root / first}"
        )


def class_indices(root: Path, names: list[str], num_classes: int, labels: Sequence[str] | None) -> list[int]:
    """Return the index of the class that each sub-folder stands for.

    With labels every sub-folder must be named like one of them, but for Unicode form, case, `_`, `-` and space. Without
    labels there must be as many sub-folders as classes, and their order as strings must be their natural order. For a
    model with one logit the sub-folder of its label is 1, all others are 0.

    Args:
        root: the folder, for errors.
        names: of its sub-folders, sorted as strings.
        num_classes: classes of the model.
        labels: names of the model's classes, or None.

    Raises:
        DataError: the sub-folders do not fit the classes.
    """
    if num_classes == 1:
        return _of_one_logit(root, names, labels)
    if labels is not None:
        return _by_name(root, names, labels)
    if len(names) != num_classes:
        raise DataError(
            f"{root} has {len(names)} sub-folders, the model {num_classes} classes without names",
            "export with --labels FILE, so that sub-folders are matched by name",
        )
    in_order = sorted(names, key=natural)
    if in_order != names:
        place = next(index for index, name in enumerate(names) if name != in_order[index])
        raise DataError(
            f"the order of {root}'s sub-folders is in doubt: as strings class {place} is '{clipped(names[place])}', in "
            f"natural order '{clipped(in_order[place])}'",
            "export with --labels FILE, which names the classes in the order of the model",
        )
    return list(range(len(names)))


def _of_one_logit(root: Path, names: list[str], labels: Sequence[str] | None) -> list[int]:
    if labels is None:
        raise DataError(
            f"the model has one logit, and which sub-folder of {root} it is for is not known: {_shown(names)}",
            "export with --labels FILE, of one line: the name of that sub-folder",
        )
    found = [int(comparable(name) == comparable(labels[0])) for name in names]
    if sum(found) != 1:
        raise DataError(
            f"{sum(found)} sub-folders of {root} are named like the model's one label, {labels[0]!r}: {_shown(names)}",
            "rename them, or export with --labels FILE that has the name of one",
        )
    return found


def _by_name(root: Path, names: list[str], labels: Sequence[str]) -> list[int]:
    exact = {label: index for index, label in enumerate(labels)}
    alike: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        alike.setdefault(comparable(label), []).append(index)
    found: dict[str, int | None] = {}
    for name in names:
        candidates = alike.get(comparable(name), [])
        found[name] = exact.get(name, candidates[0] if len(candidates) == 1 else None)
    unknown = [name for name, index in found.items() if index is None]
    if unknown:
        rest = [label for index, label in enumerate(labels) if index not in found.values()]
        raise DataError(
            f"{len(unknown)} of {len(names)} sub-folders of {root} are not named like labels of the model: "
            f"{_shown(unknown)}; labels without a folder: {_shown(rest)}",
            "rename the sub-folders to labels, or export with --labels FILE that has their names, in the model's order",
        )
    indices = [index for index in found.values() if index is not None]
    twice = next((index for index in indices if indices.count(index) > 1), None)
    if twice is not None:
        both = [name for name, index in found.items() if index == twice]
        raise DataError(f"{root} has two sub-folders for {labels[twice]!r}: {_shown(both)}", "merge them")
    return indices


def _shown(names: Sequence[str]) -> str:
    told = ", ".join(clipped(name) for name in names[:_SHOWN])
    return (told or "none") + (f", ... ({len(names)} in all)" if len(names) > _SHOWN else "")
