"""Hostile TFLite files are refused in Python, before LiteRT reads them."""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated
from hypothesis import given, settings
from hypothesis import strategies as st

from cloformer_deploy.backends.tflite import schema
from cloformer_deploy.backends.tflite.describe import describe
from cloformer_deploy.backends.tflite.file import load_model
from cloformer_deploy.backends.tflite.runtime import LiteRT
from cloformer_deploy.backends.tflite.structure import MAX_TABLES, DamagedError, check_structure
from cloformer_deploy.backends.tflite.tensors import open_tensors
from cloformer_deploy.errors import BundleError
from tests.fuzz.targets import CORPUS

pytestmark = pytest.mark.integration

VALID = (CORPUS / "tflite" / "dense").read_bytes()


def refused(content: bytes, match: str = ".") -> None:
    with pytest.raises(DamagedError, match=match):
        check_structure(content)


def table(*slots: int, inline: bytes = b"", size: int | None = None) -> bytes:
    """Return a vtable with these slots, and behind it its table with these bytes."""
    vtable = struct.pack(f"<HH{len(slots)}H", size or 4 + 2 * len(slots), 4 + len(inline), *slots)
    vtable += b"\0" * (-len(vtable) % 4)
    return vtable + struct.pack("<i", len(vtable)) + inline


def file(*tables: bytes, root: int) -> bytes:
    return struct.pack("<I4s", root, b"TFL3") + b"".join(tables)


def test_the_fields_are_those_of_the_schema() -> None:
    assert schema.fields("Tensor")[4] == schema.Field("scalars", 4)
    assert schema.fields("Tensor")[6] == schema.Field("scalar", 1)
    assert schema.fields("Tensor")[10] == schema.Field("string")
    assert schema.fields("Tensor")[12] == schema.Field("table", table="QuantizationParameters")
    assert schema.fields("SubGraph")[4] == schema.Field("tables", table="Tensor")
    assert schema.fields("Operator")[12] == schema.Field("union", table="BuiltinOptions")
    assert schema.fields("QuantizationParameters")[10] == schema.Field("scalars", 8)
    assert schema.fields("Buffer")[6] == schema.Field("scalar", 8)
    assert schema.members("BuiltinOptions")[1] == "Conv2DOptions"


def test_every_table_and_union_of_the_schema_is_understood() -> None:
    tables = {name for name, made in vars(schema_py_generated).items() if hasattr(made, "GetRootAs")}
    assert len(tables) > 100
    for name in tables:
        for field in schema.fields(name).values():
            assert (field.table in tables) == (field.form in ("table", "tables"))
            if field.form == "union":
                assert set(schema.members(field.table).values()) <= tables


@given(st.integers(0, len(VALID) - 1))
@settings(max_examples=len(VALID))
def test_a_part_of_a_file_is_refused(size: int) -> None:
    refused(VALID[:size])


@given(st.integers(0, len(VALID) // 4 - 1), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_changed_word_is_refused_or_harmless(word: int, value: int) -> None:
    content = bytearray(VALID)
    struct.pack_into("<I", content, 4 * word, value)
    with suppress(DamagedError):
        check_structure(bytes(content))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param(b"\x18\0\0\0TFL3", "byte 24 of 8", id="eight-bytes"),
        pytest.param(file(root=0), "nothing can begin", id="root-is-the-offset"),
        pytest.param(file(root=10), "nothing can begin", id="root-is-not-aligned"),
        pytest.param(file(struct.pack("<i", -100), root=8), "byte 108 of 12", id="vtable-behind-the-file"),
        pytest.param(file(struct.pack("<i", 100), root=8), "byte -92", id="vtable-before-the-file"),
        pytest.param(file(struct.pack("<i", 0), root=8), "list of its fields", id="vtable-is-the-table"),
        pytest.param(file(table(size=400), root=12), "list of its fields", id="vtable-too-long"),
        pytest.param(file(table(size=3), root=12), "list of its fields", id="vtable-odd"),
        pytest.param(file(table(200), root=16), "bytes 216 to 220", id="scalar-outside"),
        pytest.param(
            file(table(0, 0, 4, inline=struct.pack("<I", 0)), root=20), "nothing can begin", id="reference-to-itself"
        ),
        pytest.param(
            file(table(0, 0, 4, inline=struct.pack("<I", 2**31)), root=20), "byte 2147483672", id="reference-outside"
        ),
        pytest.param(
            file(table(0, 0, 4, inline=struct.pack("<II", 4, 2**30)), root=20), "1073741824 elements", id="vector-huge"
        ),
        pytest.param(
            file(table(0, 0, 0, 4, inline=struct.pack("<II4s", 4, 4, b"abcd")), root=20), "bytes 36", id="text-unended"
        ),
    ],
)
def test_references_that_lead_nowhere_are_refused(content: bytes, match: str, tmp_path: Path) -> None:
    refused(content, match)
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    for read in (load_model, describe, LiteRT().open, open_tensors):
        with pytest.raises(BundleError, match=r"a\.tflite is damaged") as caught:
            read(path)
        assert caught.value.exit_code == 2
        assert caught.value.hint


def test_a_table_that_is_referred_to_without_end_is_refused() -> None:
    """A vector whose elements are the same table: a small file, a large model."""
    count = MAX_TABLES + 1
    codes = 24  # place of the vector; behind it is the only operator code
    code = codes + 4 + 4 * count + 4
    offsets = struct.pack(f"<I{count}I", count, *(code - (codes + 4 + 4 * index) for index in range(count)))
    root = table(0, 4, inline=struct.pack("<I", codes - 20))
    content = file(root, offsets, struct.pack("<HHi", 4, 4, 4), root=16)
    assert content.index(offsets) == codes
    refused(content, "more than")


@pytest.mark.parametrize("name", ["no-graph", "no-graph-2"])
def test_a_file_that_crashes_litert_is_refused(name: str) -> None:
    """All references of these files lead into them; LiteRT 2.3 ends with SIGSEGV."""
    for read in (load_model, LiteRT().open, open_tensors):
        with pytest.raises(BundleError, match="has no graph"):
            read(CORPUS / "tflite" / name)


@pytest.mark.parametrize("slot", [6, 8, 10])
def test_a_graph_without_a_part_is_refused(slot: int, tmp_path: Path) -> None:
    """Inputs, outputs or operators are left out: the graph's vtable has no place for them."""
    content = bytearray(VALID)
    root = struct.unpack_from("<I", content)[0]
    vector = root + struct.unpack_from("<H", content, root - struct.unpack_from("<i", content, root)[0] + 8)[0]
    vector += struct.unpack_from("<I", content, vector)[0]
    graph = vector + 4 + struct.unpack_from("<I", content, vector + 4)[0]
    struct.pack_into("<H", content, graph - struct.unpack_from("<i", content, graph)[0] + slot, 0)
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    for read in (describe, LiteRT().open, open_tensors):
        with pytest.raises(BundleError, match="lacks operators, inputs or outputs"):
            read(path)
