"""Malformed requests: refused with cause and next step, for people and for scripts; nothing on disk changes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import Outcome, invoke, parsed, spawn, tree


@dataclass(frozen=True)
class Case:
    """One refused request.

    `told` must be in the message; `usage` is typer's own refusal, which has no next step; `fresh` runs in a
    process of its own when it answers in JSON, where nothing but the answer may reach standard output.
    """

    name: str
    args: tuple[str, ...]
    told: tuple[str, ...]
    code: int = 2
    usage: bool = False
    fresh: bool = False
    make: Callable[[Path], object] | None = None

    def __str__(self) -> str:
        return self.name


def ids(cases: Iterable[Case]) -> list[Any]:
    return [pytest.param(case, id=case.name) for case in cases]


def check(case: Case, folder: Path) -> None:
    """Run a case for people and for scripts: both are told, and the folder is as it was."""
    if case.make is not None:
        case.make(folder)
    before = tree(folder)
    for_people = run(case, folder)
    assert tree(folder) == before
    for_scripts = run(case, folder, json=True)
    assert tree(folder) == before

    assert for_people.code == case.code, for_people.said
    assert for_people.stdout == ""
    assert "Traceback" not in for_people.stderr
    for told in case.told:
        assert told in for_people.said
    if case.usage:
        assert "Error" in for_people.stderr
    else:
        cause, following = for_people.stderr.split("Error: ")[-1].split("\n  Next: ")
        assert cause.strip()
        assert following.strip()
        assert len(cause) < 1000

    assert for_scripts.code == case.code
    assert for_scripts.said.endswith(for_people.said[-40:]) or case.usage
    assert "Traceback" not in for_scripts.stderr
    answer = parsed(for_scripts.stdout)
    assert set(answer) == {"schema_version", "error"}
    assert answer["schema_version"] == 1
    assert set(answer["error"]) == {"code", "message", "hint"}
    assert answer["error"]["code"] == case.code
    assert answer["error"]["hint"]
    for told in case.told:
        assert told in answer["error"]["message"] + answer["error"]["hint"]


def run(case: Case, folder: Path, *, json: bool = False) -> Outcome:
    # After the command, not at the end, where an option that lacks its value would take it.
    args = (case.args[0], "--json", *case.args[1:]) if json else case.args
    return spawn(*args, cwd=folder) if case.fresh and json else invoke(*args)
