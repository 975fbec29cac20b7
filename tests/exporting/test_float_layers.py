"""Exclusion files: written whole, read back, and refused with the place where they are wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from cloformer_deploy.errors import RequestError
from cloformer_deploy.exporting.float_layers import ExcludedLayers, read_excluded_layers, write_excluded_layers

EXCLUSIONS = ExcludedLayers(
    weights_sha256="0" * 64,
    format="onnx",
    target="cpu",
    precision="int8",
    excluded_layers=("head", "layers.0.blocks.1.attn$"),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "exclusions.json"
    path.write_text("before")
    write_excluded_layers(path, EXCLUSIONS)
    assert read_excluded_layers(path) == EXCLUSIONS
    assert [item.name for item in tmp_path.iterdir()] == ["exclusions.json"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"excluded_layers": ["(a+)+$"]}, "excluded_layers.0"),
        ({"excluded_layers": ["layers..0"]}, "excluded_layers.0"),
        ({"excluded_layers": []}, "excluded_layers"),
        ({"weights_sha256": "0"}, "weights_sha256"),
        ({"schema_version": 1}, "schema_version"),
        ({"more": 1}, "more"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    path = tmp_path / "exclusions.json"
    path.write_text(json.dumps({**EXCLUSIONS.model_dump(mode="json"), **change}))
    with pytest.raises(RequestError, match=f"is no exclusion file: {place}: "):
        read_excluded_layers(path)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{"])
def test_what_is_no_exclusion_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "exclusions.json"
    path.write_bytes(content)
    with pytest.raises(RequestError, match="is no exclusion file"):
        read_excluded_layers(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read: No such file"):
        read_excluded_layers(tmp_path / "none.json")
