"""`bench --end-to-end`: the whole path of real files, step by step, and the memory of many runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloformer_deploy.bench.end_to_end import end_to_end
from cloformer_deploy.bench.measure import load
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.errors import ToolError
from cloformer_deploy.progress import Silent
from tests.bench.conftest import FAST, SLOW
from tests.cli.command_line import invoke

LEAKING = """
HELD = []

def open_file(path, threads, unit):
    def run(feed):
        HELD.append(b"x" * 200_000)
        return {}
    return run
"""


@pytest.mark.integration
def test_every_step_takes_time_and_the_model_that_of_its_convolutions(onnx_bundle: Bundle) -> None:
    loads = [load(onnx_bundle, item) for item in onnx_bundle.manifest.artifacts]
    found = {item.artifact.path: times for item, times in end_to_end(onnx_bundle, loads, 1, Silent(), 15, 50)}
    for times in found.values():
        steps = (times.decode_ms, times.resize_ms, times.normalize_ms, times.model_ms)
        assert all(value > 0 for value in steps)
        assert times.total_ms > max(steps)
        assert (times.rounds, times.runs) == (15, 50)
        assert times.growth_bytes is None or times.growth_bytes < 20_000_000
    assert found[SLOW].model_ms > 2 * found[FAST].model_ms


@pytest.mark.integration
def test_memory_that_grows_is_seen(onnx_bundle: Bundle, set_opener: Callable[..., None]) -> None:
    set_opener(LEAKING)
    loads = [load(onnx_bundle, item) for item in onnx_bundle.manifest.artifacts[:1]]
    ((_, times),) = end_to_end(onnx_bundle, loads, 1, Silent(), 2, 200)
    assert times.growth_bytes is None or times.growth_bytes == pytest.approx(180 * 200_000, rel=0.2)


@pytest.mark.integration
def test_a_runtime_that_fails_is_told(onnx_bundle: Bundle, set_opener: Callable[..., None]) -> None:
    set_opener("def open_file(path, threads, unit):\n    raise RuntimeError('it cannot')\n")
    loads = [load(onnx_bundle, item) for item in onnx_bundle.manifest.artifacts[:1]]
    with pytest.raises(ToolError, match="it cannot"):
        list(end_to_end(onnx_bundle, loads, 1, Silent(), 2, 2))


def test_it_is_for_this_machine_alone(tmp_path: Path) -> None:
    ended = invoke("bench", str(tmp_path), "--device", "adb", "--end-to-end")
    assert ended.code == 2
    assert "--end-to-end is for this machine alone" in ended.said
