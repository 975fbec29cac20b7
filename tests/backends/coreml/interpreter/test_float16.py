"""Find the float16 hazards of a program, without false reports."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloformer_deploy.backends.coreml.interpreter import Float16Hazards, Program, float16_hazards
from tests.backends.coreml.interpreter.coreml_programs import build

pytestmark = pytest.mark.integration


def hazards(path: Path, body: Any, *inputs: np.ndarray[Any, Any], dtype: str = "fp32") -> Float16Hazards:
    program = Program.load(build(path / "p.mlpackage", body, [inputs[0].shape], dtype))
    return float16_hazards(program, [{"x": array} for array in inputs])


def safe_program(mb: Any, x: Any) -> Any:
    return mb.reduce_mean(x=mb.tanh(x=x), axes=[2, 3], keep_dims=True, name="mean")


def test_safe_program(tmp_path: Path) -> None:
    ones = np.ones((1, 2, 4, 8), np.float32)
    found = hazards(tmp_path, safe_program, ones, -2 * ones)
    assert not found.found
    assert found.images == 2
    assert found.longest_sum == 32
    largest, name = found.largest_sum
    assert name == "mean"
    np.testing.assert_allclose(largest, 32 * np.tanh(2), rtol=1e-6)


def test_overflowing_values(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.tanh(x=mb.square(x=x, name="squared"))

    below, above = (np.full((1, 2), value, np.float32) for value in (255.9, 256.1))
    assert not hazards(tmp_path, body, below).found
    found = hazards(tmp_path, body, below, above)
    assert found.overflows == ["squared"]
    assert found.largest[1] == "squared"
    assert not found.overflowing_sums


def test_infinite_values_in_a_float16_program(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.tanh(x=mb.square(x=x, name="squared"))

    found = hazards(tmp_path, body, np.full((1, 2), 300, np.float16), dtype="fp16")
    assert found.overflows == ["squared"]


def test_overflowing_sums_of_representable_values(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> list[Any]:
        mean = mb.reduce_mean(x=mb.relu(x=x), axes=[3], keep_dims=True, name="mean")
        pool = mb.avg_pool(x=mb.relu(x=x), kernel_sizes=[2, 4], strides=[2, 4], pad_type="valid", name="pool")
        total = mb.reduce_sum(x=mb.relu(x=x), axes=[2, 3], keep_dims=True, name="sum")
        return [mean, pool, total]

    sums: dict[int, list[str]] = {3000: [], 5000: ["sum"], 10_000: ["pool", "sum"], 40_000: ["mean", "pool", "sum"]}
    for value, expected in sums.items():
        folder = tmp_path / str(value)
        found = hazards(folder, body, np.full((1, 1, 4, 4), value, np.float32))
        assert sorted(found.overflowing_sums) == expected, value
        assert found.largest_sum == (16.0 * value, "sum")
        assert found.longest_sum == 16


def test_overflowing_sums_of_terms_that_cancel(tmp_path: Path) -> None:
    """A partial sum may overflow although the complete sum is small."""
    x = np.repeat(np.array([[[[30_000.0, -30_000.0]]]], np.float32), 2, axis=3)

    def body(mb: Any, x: Any) -> Any:
        return mb.reduce_mean(x=mb.identity(x=x), axes=[3], keep_dims=True, name="mean")

    assert hazards(tmp_path, body, x).overflowing_sums == ["mean"]


def test_subnormal_constants(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        safe = mb.add(x=x, y=np.float32(1e-4), name="safe")
        eps = mb.add(x=safe, y=np.float32(1e-5), name="unsafe")
        weights = np.full(2, 1e-6, np.float32)  # Small weights are no hazard: they are small beside the other terms.
        return mb.rsqrt(x=mb.add(x=eps, y=weights))

    found = hazards(tmp_path, body, np.ones((1, 2), np.float32))
    assert len(found.subnormal_constants) == 1
    assert found.subnormal_constants[0].startswith("unsafe")
