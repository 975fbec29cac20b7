"""Strict schemas, and the wording of their validation errors."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cloformer_deploy.system.schema import AnyPath, Sha256, Strict, first_error
from cloformer_deploy.system.text import MAX_LENGTH


class Inner(Strict):
    values: tuple[float, ...]


class Outer(Strict):
    sha256: Sha256 = "0" * 64
    inner: Inner


VALID: dict[str, Any] = {"inner": {"values": [1.0, 2.0]}}


def problem(content: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(json.dumps(content))
    return first_error(caught.value)


def test_a_record_cannot_be_changed() -> None:
    record = Outer.model_validate(VALID)
    with pytest.raises(ValidationError, match="frozen"):
        record.inner = Inner(values=())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value: float) -> None:
    assert problem({"inner": {"values": [1.0, value]}}) == "inner.values.1: Input should be a finite number"


def test_unknown_fields_are_errors() -> None:
    assert problem({**VALID, "more": 1}) == "more: Extra inputs are not permitted"


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n"])
def test_a_digest_has_64_lower_case_digits(digest: str) -> None:
    assert problem({**VALID, "sha256": digest}).startswith("sha256: ")


def test_the_whole_input_has_no_place() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json("{")
    assert first_error(caught.value).startswith("Invalid JSON")


def test_only_the_first_problem_is_named() -> None:
    assert problem({"inner": {"values": ["x", "y"]}, "more": 1}).startswith("inner.values.0: ")


def test_a_place_from_a_file_is_printable_and_short() -> None:
    text = problem({**VALID, "\x1b[2J\n" + "x" * 5000: 1})
    place, _, message = text.partition(": ")
    assert text.isprintable()
    assert len(place) <= MAX_LENGTH
    assert message == "Extra inputs are not permitted"


class _Job(Strict):
    path: AnyPath


@pytest.mark.parametrize("name", [b"a/b.txt", "größe 木".encode(), b"caf\xe9", bytes(range(1, 256))])
def test_any_path_survives_json(name: bytes) -> None:
    job = _Job(path=Path(os.fsdecode(name)))
    assert _Job.model_validate_json(job.model_dump_json()) == job


def test_what_is_no_path_is_refused() -> None:
    with pytest.raises(ValidationError, match="no path"):
        _Job.model_validate({"path": 3})
