"""Compare the interpreter's upsampling with torch and numpy, whole and fractional factors, with each alignment."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cloformer_deploy.backends.coreml.interpreter import Program
from cloformer_deploy.errors import ToolError
from tests.backends.coreml.interpreter.coreml_programs import Case, build, check

pytestmark = pytest.mark.integration

SHAPE = (2, 3, 5, 4)


def bilinear_case(rows: float, columns: float, **how: bool) -> Case:
    aligned = how.get("align_corners", True)

    def body(mb: Any, x: Any) -> Any:
        return mb.upsample_bilinear(x=x, scale_factor_height=rows, scale_factor_width=columns, **how)

    def reference(x: Tensor) -> Tensor:
        size = (int(x.shape[2] * rows), int(x.shape[3] * columns))
        return interpolate(x, size=size, mode="bilinear", align_corners=aligned)

    return f"bilinear {rows} {columns} {how}", body, reference


def left_aligned(x: Tensor) -> Tensor:
    """Doubled columns whose sample i is taken at i / 2: neither corners nor centers are aligned."""
    after = torch.cat([x[..., 1:], x[..., -1:]], dim=-1)
    return torch.stack([x, (x + after) / 2], dim=-1).flatten(-2)


CASES: list[Case] = [
    bilinear_case(2, 2, align_corners=False),
    bilinear_case(4, 1, align_corners=False, half_pixel_centers=True),
    bilinear_case(2.5, 1.5, align_corners=False),
    bilinear_case(2, 3),
    bilinear_case(2, 2, align_corners=True, half_pixel_centers=False),
    (
        "bilinear from the left",
        lambda mb, x: mb.upsample_bilinear(x=x, scale_factor_width=2, align_corners=False, half_pixel_centers=False),
        left_aligned,
    ),
    (
        "nearest",
        lambda mb, x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
        lambda x: interpolate(x, scale_factor=(2.0, 3.0), mode="nearest"),
    ),
    (
        "nearest by 1.5",
        lambda mb, x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=1.5, scale_factor_width=1.0),
        lambda x: x[:, :, [0, 0, 1, 2, 2, 3, 4]],
    ),
]


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_upsampling(tmp_path: Path, dtype: str) -> None:
    check(tmp_path / "a.mlpackage", [SHAPE], CASES, dtype)


def test_both_alignments_are_refused(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.upsample_bilinear(x=x, scale_factor_width=2, align_corners=True, half_pixel_centers=True, name="out")

    program = Program.load(build(tmp_path / "a.mlpackage", body, [SHAPE]))
    with pytest.raises(ToolError, match="exclude each other"):
        program.run({"x": np.zeros(SHAPE, np.float32)})
