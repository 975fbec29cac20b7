"""Plots show the figures of the checks: positions on axes, and labels that do not overlap."""

import pytest

from cloformer_deploy.report.html.plots import agreement_dots, class_drift, drop_dots, latency_bars, scatters
from tests.report.html.report_examples import artifacts, measured, report


def test_dots_are_the_checks_of_the_gate() -> None:
    made = report(4, broken=[1])
    for dots, name, factor in (
        (agreement_dots(made.result), "agreement", 100),
        (drop_dots(made.result), "drop_pp", 1),
    ):
        checks = [next(check for check in cell.checks if check.name == name) for cell in made.result.cells]
        assert [row.value / factor for row in dots.rows] == [pytest.approx(check.value) for check in checks]
        assert [row.limit / factor for row in dots.rows] == [pytest.approx(check.limit) for check in checks]
        assert [row.failed for row in dots.rows] == [False, True, False, False]
        assert [bool(dots.axis.beyond(row.value)) for row in dots.rows] == [False, True, False, False]


def test_points_are_accuracy_over_cost() -> None:
    made = report(4, broken=[1])
    bars = latency_bars([measured(item, p50_ms=10.0 + place) for place, item in enumerate(artifacts(3))])
    size, latency = scatters(made.result, bars)
    assert [point.x for point in size.points] == [item.bytes / 1e6 for item in artifacts(4)]
    assert [point.x for point in latency.points] == [10.0, 11.0, 12.0]
    for cell, point in zip(made.result.cells, size.points, strict=True):
        assert cell.comparison is not None
        assert cell.comparison.score is not None
        assert point.y == pytest.approx(100 * cell.comparison.score)
        assert point.interval[0] <= point.y <= point.interval[1]
        assert point.failed is (cell.status == "failed")
    assert scatters(made.result, latency_bars([measured(artifacts(1)[0], p50_ms=10.0)])) == [size]


def test_close_points_share_a_text() -> None:
    (size,) = scatters(report(20).result, [])
    named = [text for label in size.labels for text in label.text.split(" +")[0].split(", ")]
    assert len(size.labels) < len(size.points)
    assert {"fp32", "fp16", "int8"} <= set(named)
    at = [(label.x, label.y) for label in size.labels]
    assert len(set(at)) == len(at)


def test_only_latencies_have_bars_and_devices_come_first() -> None:
    (made,) = artifacts(1)
    found = [
        measured(made, p50_ms=1.0),
        measured(made, p50_ms=2.0, threads=2),
        measured(made, "board", "device", p50_ms=3.0),
        measured(made, "qemu", "emulated", p50_ms=4.0),
        measured(made, "npu", "estimated", p50_ms=5.0),
        measured(made, "phone", "device", status="not_executed"),
    ]
    bars = latency_bars(found)
    assert [(item.device, item.threads) for item in bars] == [("board", 1), ("host", 1), ("host", 2)]
    assert all(item.axis.ticks[0] == 0 for item in bars)


def test_classes_that_lost_most_come_first() -> None:
    made = report(3, broken=[0])
    found = class_drift(made.result)
    assert [cell.artifact.path for cell in found.columns] == [
        cell.artifact.path for cell in made.result.cells if cell.comparison and cell.comparison.classes
    ]
    losses = [sum(item.drop_pp for item in row.cells if item) for row in found.rows]
    assert losses == sorted(losses, reverse=True)
    assert found.most == max(abs(item.drop_pp) for row in found.rows for item in row.cells if item)
    assert class_drift(report(1).result).rows == ()
