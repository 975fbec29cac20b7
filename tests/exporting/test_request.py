"""Requests that contradict themselves are refused before anything is read or written."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cloformer_deploy.errors import RequestError
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Silent

ONNX = ExportRequest(("onnx",))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"formats": ("bogus",)}, "'bogus'"),
        ({"formats": ()}, "no format"),
        ({"precisions": ()}, "no precision"),
        ({"precisions": ("int3",)}, "'int3'"),
        ({"input_kind": "video"}, "'video'"),
        ({"batch": 0}, "batch 0"),
        ({"batch": 257}, "batch 257"),
        ({"height": 225}, "225"),
        ({"options": {"ios": 14}}, "iOS 14"),
        ({"options": {"android": 14}}, "option 'android'"),
        ({"formats": ("coreml",), "precisions": ("int8",), "options": {"ios": 16}}, "iOS 16"),
        ({"formats": ("coreml",), "precisions": ("p6",), "options": {"ios": 15}}, "iOS 15"),
        ({"options": {"opset": 16}}, "--opset 16"),
        ({"options": {"opset": 22}}, "--opset 22"),
        ({"formats": ("tflite",), "options": {"opset": 16}}, "--opset 16"),
        ({"target": "hexagon", "precisions": ("int8", "w8a16"), "options": {"opset": 20}}, "16-bit integers for w8a16"),
        ({"target": "ane"}, "'ane'"),
        ({"formats": ("tflite",), "batch": None}, "tflite files have a fixed batch"),
        ({"formats": ("coreml",), "input_kind": "image", "batch": 2}, "one image, not 2"),
        ({"variant": "xl"}, "'xl'"),
        ({"max_drop_pp": 0.3}, "labeled images"),
        ({"data": Path("images")}, "--data images"),
        ({"workers": "ray"}, "--workers ray is for an accuracy limit"),
        ({"max_drop_pp": -1.0, "data": Path("images")}, "--max-drop -1.0"),
        ({"max_drop_pp": float("nan"), "data": Path("images")}, "--max-drop nan"),
        ({"max_drop_pp": 0.3, "data": Path("images")}, "none was asked for"),
        ({"max_drop_pp": 0.3, "data": Path("images"), "precisions": ("w8",)}, "none was asked for"),
        ({"max_drop_pp": 0.3, "data": Path("images"), "precisions": ("int8",), "budget": 1}, "--budget 1"),
    ],
    ids=str,
)
def test_contradictions(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    with pytest.raises(RequestError) as caught:
        export(dataclasses.replace(ONNX, output=output, **changes), Silent())
    assert told in caught.value.message
    assert caught.value.hint
    assert not output.exists()
