"""Measurements of formats with an opener of their own, and on a device of its own."""

import ast
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloformer_deploy.backends.registry import BACKENDS, runtime_for
from cloformer_deploy.bench import Protocol, bench, read_results
from cloformer_deploy.bench.devices import DEVICES, Answer, Device, Kind, Load, Measured, Options, Request, open_device
from cloformer_deploy.bench.devices.host import Host
from cloformer_deploy.bench.devices.runner_job import MACHINE, RUNNER
from cloformer_deploy.bench.measure import largest_difference, load
from cloformer_deploy.bench.protocol import figures
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.errors import RequestError
from cloformer_deploy.progress import Progress, Silent
from tests.bench.conftest import FAST, SLOW, MakeBundle

QUICK = Protocol(warmup_runs=1, warmup_s=0, runs=5, seconds=0)
OPENER = """
import numpy

def open_file(path, threads, unit):
    def run(feed):
        image = feed["image"]
        assert image.dtype == numpy.float32
        return {"shape": numpy.array(image.shape), unit or "none": image.mean(axis=3, keepdims=True)}
    return run
"""
BROKEN = """
import numpy

def open_file(path, threads, unit):
    return lambda feed: {"good": numpy.ones(1), "bad": numpy.array([1.0, numpy.inf])}
"""


def on_host(*loads: Load) -> tuple[Measured, ...]:
    return Host().measure(Request(loads, 1, None, QUICK, 60), Silent()).measured


def loads(bundle: Bundle) -> list[Load]:
    return [load(bundle, item) for item in bundle.manifest.artifacts]


@pytest.mark.integration
def test_named_inputs_and_outputs_of_every_unit_in_the_layout_of_the_file(
    make_bundle: MakeBundle, set_opener: Callable[..., None]
) -> None:
    set_opener(OPENER, input_layout="NHWC", units=("narrow", "wide"))
    (given,) = loads(make_bundle({SLOW: b"anything"}))
    found = on_host(given)
    assert [(item.load, item.unit, item.status, item.reason) for item in found] == [
        (given, "narrow", "measured", None),
        (given, "wide", "measured", None),
    ]
    for item in found:
        assert item.outputs is not None
        assert list(item.outputs) == ["shape", item.unit]
        assert item.outputs["shape"].tolist() == [1, 224, 224, 3]
        mean = item.outputs[str(item.unit)]
        assert mean.shape == (1, 1, 224, 224)
        np.testing.assert_allclose(mean, given.feed["image"].mean(axis=1, keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.integration
def test_outputs_that_are_not_finite_fail(make_bundle: MakeBundle, set_opener: Callable[..., None]) -> None:
    set_opener(BROKEN)
    (found,) = on_host(*loads(make_bundle({SLOW: b"anything"})))
    assert (found.status, found.reason) == ("failed", "output bad holds NaN or infinity there")


@pytest.mark.integration
def test_an_opener_that_fails_is_the_reason(make_bundle: MakeBundle, set_opener: Callable[..., None]) -> None:
    set_opener("def open_file(path, threads, unit):\n    raise ValueError('no such unit')")
    (found,) = on_host(*loads(make_bundle({SLOW: b"anything"})))
    assert (found.status, found.reason) == ("failed", "ValueError: no such unit")


@pytest.mark.integration
def test_two_builds_of_one_artifact_are_told_apart(onnx_bundle: Bundle, make_bundle: MakeBundle) -> None:
    whole = (onnx_bundle.root / FAST).read_bytes()
    now, before = (make_bundle({FAST: content}) for content in (whole, whole[:100]))
    current = load(now, now.manifest.artifacts[0])
    baseline = load(before, before.manifest.artifacts[0], baseline=True)
    found = {item.load: item.status for item in on_host(current, baseline)}
    assert found == {current: "measured", baseline: "failed"}


class Toy:
    """A device that measures nothing and answers with outputs that are off by `N`."""

    def __init__(self, offset: str) -> None:
        self.name = f"toy:{offset}"
        self._offset = float(offset)

    @classmethod
    def parse(cls, detail: str, _options: Options) -> Device:
        if not detail:
            raise RequestError("the device toy: has no number", "give --device toy:N")
        return cls(detail)

    def measure(self, request: Request, progress: Progress) -> Answer:
        measured = []
        for item in request.loads:
            exact = runtime_for(item.artifact.format).open(item.path).run(item.feed)
            outputs = {name: values + np.float32(self._offset) for name, values in exact.items()}
            times = [1.0, 2.0] if item.artifact.precision == "fp16" else [2.0, 4.0]
            found = figures(times)
            measured.append(Measured(item, "measured", figures=found, rounds_ms=tuple(times), outputs=outputs))
        return Answer("a toy", "simulated", None, None, None, tuple(measured))


def test_a_device_is_one_class_and_one_entry(onnx_bundle: Bundle, make_bundle: MakeBundle, monkeypatch: Any) -> None:
    monkeypatch.setitem(DEVICES, "toy", Kind("toy:N", "a toy", lambda: None, Toy.parse))
    bundle = make_bundle({name: (onnx_bundle.root / name).read_bytes() for name in (SLOW, FAST)})
    with pytest.raises(RequestError, match="toy"):
        open_device("toy", Options())
    result = bench(bundle, [open_device("toy:0.5", Options())], 1, None, QUICK, None, Silent())
    found = {item.path: item for item in result.results}
    assert {item.device for item in result.results} == {"toy:0.5"}
    assert (found[FAST].speedup, found[FAST].speedup_to, found[SLOW].speedup) == (2.0, SLOW, None)
    assert [item.max_abs_diff for item in result.results] == pytest.approx([0.5, 0.5], abs=1e-5)
    assert read_results(bundle) == result.results


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"a": [1.0, 2.0], "b": [3.0]}, 0.0),
        ({"a": [1.0, 2.5], "b": [2.0]}, 1.0),
        ({"a": [1.0, 2.0]}, None),
        ({"a": [1.0, 2.0], "c": [3.0]}, None),
        ({"a": [1.0], "b": [3.0]}, None),
    ],
)
def test_difference_is_over_all_outputs_or_none(there: Mapping[str, list[float]], expected: float | None) -> None:
    here = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    assert largest_difference(here, {name: np.array(values) for name, values in there.items()}) == expected


@pytest.mark.parametrize("path", [RUNNER, MACHINE, *(item.opener.path for item in BACKENDS.values())])
def test_files_that_are_sent_stand_alone_in_python_3_8(path: Path) -> None:
    parsed = ast.parse(path.read_text(), feature_version=(3, 8))
    names = [alias.name for node in parsed.body if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in parsed.body if isinstance(node, ast.ImportFrom)]
    assert names
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
