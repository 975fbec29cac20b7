"""The operators of a file that XNNPACK runs, as LiteRT itself reports them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cloformer_deploy.backends.tflite.placement import Placement, _undelegated, placement
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.errors import ToolError


def node(name: str, inputs: list[int], outputs: list[int]) -> Mapping[str, Any]:
    return {"op_name": name, "inputs": inputs, "outputs": outputs}


@pytest.mark.parametrize(
    ("delegates", "expected"),
    [
        ([], {"A": 1, "B": 1, "C": 1, "D": 1}),
        ([([0], [4])], {}),
        ([([0], [2]), ([3], [4])], {"C": 1}),
        ([([0], [1]), ([3], [4])], {"B": 1, "C": 1}),
        ([([1], [4])], {"A": 1}),
        ([([0], [3])], {"D": 1}),
    ],
)
def test_a_chain_of_four(delegates: list[tuple[list[int], list[int]]], expected: dict[str, int]) -> None:
    operators = [node(name, [index], [index + 1]) for index, name in enumerate("ABCD")]
    taken = [node("DELEGATE", *each) for each in delegates]
    assert _undelegated(operators, taken, outputs=[4]) == expected


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    with pytest.raises(ToolError, match="LiteRT cannot prepare"):
        placement(path)


@pytest.mark.integration
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_exports_are_one_partition(image_bundle: Bundle, precision: str) -> None:
    """But for the cast of the pixels, which comes before it: XNNPACK has none from uint8."""
    assert placement(image_bundle.root / f"cloformer_custom-{precision}.tflite") == Placement(1, {"CAST": 1})
