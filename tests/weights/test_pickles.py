"""Pickles of every protocol are read as inert values, and hostile ones end in a refusal, soon and in little memory."""

import io
import pickle
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.weights import pickles
from cloformer_deploy.weights.finding import walk
from cloformer_deploy.weights.pickles import unpickle
from cloformer_deploy.weights.records import Record

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


def read(data: bytes) -> Any:
    return unpickle(io.BytesIO(data))


@settings(deadline=None)
@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    assert _texts(read(pickle.dumps(value, protocol))) == value


def _texts(value: Any) -> Any:
    """Undo protocols 0 to 2, which pickle bytes as a call of `codecs.encode`."""
    if isinstance(value, Record):
        return value.arguments[0].encode("latin1") if value.arguments else b""
    if isinstance(value, dict):
        return {key: _texts(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_texts, value))
    return value


@settings(max_examples=300, deadline=None)
@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL), st.data())
def test_damaged_pickles_are_read_or_refused(value: Any, protocol: int, data: st.DataObject) -> None:
    changed = bytearray(pickle.dumps({"a": value, "b": Exception("c")}, protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(walk(read(bytes(changed))))
    except CheckpointError:
        return


def test_shared_and_cyclic_values() -> None:
    shared: list[Any] = [1]
    shared.append(shared)
    found = read(pickle.dumps({"a": shared, "b": shared}))
    assert found["a"] is found["b"]
    assert found["a"][1] is found["a"]
    assert len(list(walk(found))) < 20


SHARED = b"\x80\x02]" + b"".join(b"q%c(" % index + b"h%c" % index * 9 + b"l" for index in range(99)) + b"."
"""A list of nine times the list before it, 99 levels deep."""
NAMESPACE = b"\x80\x02cargparse\nNamespace\n)\x81}"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x80\x02N" + b"r" + struct.pack("<I", 2**32 - 1) + b".", id="large memo index"),
        pytest.param(b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns.", id="nested tuple as a key"),
        pytest.param(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", id="nested lists"),
        pytest.param(
            b"\x80\x02]" + b"".join(b"q%c(" % index + b"h%c" % index * 9 + b"l" for index in range(99)) + b".",
            id="shared",
        ),
        pytest.param(b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text("exit 1") + b"\x85R.", id="call"),
        pytest.param(
            b"\x80\x02cargparse\nNamespace\n)\x81}" + text("__setstate__") + b"cposix\nsystem\nsb.", id="state"
        ),
        pytest.param(b"(S'exit'\niposix\nsystem\n.", id="instance"),
    ],
)
def test_hostile_pickles_are_inert(data: bytes) -> None:
    list(walk(read(data)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"(.",
        b"\x80\x02\x85.",
        b"\x80\x02Nh\x00.",
        b"\x80\x02NNR.",
        b"\x80\x02NNs.",
        b"\x80\x02N(NNu.",
        b"\x80\x02}(Nu.",
        b"\x80\x02\x82\x01.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    ],
)
def test_what_is_no_pickle_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"truncated or damaged|not read"):
        read(data)


def test_the_number_of_opcodes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPCODES", 100)
    with pytest.raises(CheckpointError, match=r"more than 100 opcodes"):
        read(b"\x80\x02" + b"}0" * 60 + b"N.")
