"""Data of the plots: values, axes and labels, so that the template only draws."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.report.cells import percent, short_name
from cloformer_deploy.report.html.axes import Axis, spanning

if TYPE_CHECKING:
    from cloformer_deploy.bench import Result
    from cloformer_deploy.gate import Cell, Check, Gate
    from cloformer_deploy.tasks import ClassChange

Interval = tuple[float, float]
_NEAR_X, _NEAR_Y = 18.0, 7.0
"""Distance, percent of each axis, within which points of equal labels share one; half of it for different labels."""
_NAMED = 2
SHAPES = ("circle", "square", "triangle", "diamond")
"""Ids of the marks in page.html; each format has one, by its place in the registry."""


@dataclass(frozen=True)
class Row:
    """One artifact's figure with its 95 % interval and its limit."""

    name: str
    failed: bool
    value: float
    interval: Interval
    limit: float
    text: str


@dataclass(frozen=True)
class Dots:
    """Rows on one axis."""

    axis: Axis
    rows: tuple[Row, ...]


def agreement_dots(result: "Gate") -> Dots:
    """Return the agreement with PyTorch, percent."""
    return _dots(result, "agreement", 100, lambda value: percent(value / 100), 1, 100.0)


def drop_dots(result: "Gate") -> Dots:
    """Return the drop of the metric against PyTorch, percentage points."""
    return _dots(result, "drop_pp", 1, lambda value: f"{value:.2f}", 2)


def _dots(
    result: "Gate", name: str, factor: float, shown: Callable[[float], str], decimals: int, most: float = math.inf
) -> Dots:
    rows = []
    for cell in result.cells:
        check = _check(cell, name)
        if check is not None and check.value is not None and check.limit is not None:
            value, interval = factor * check.value, _scaled(check, factor)
            text = f"{shown(value)} ({_ends(interval, decimals)})"
            failed = check.outcome == "failed"
            rows.append(Row(short_name(cell.artifact), failed, value, interval, factor * check.limit, text))
    held = [value for row in rows for value in (row.limit, *(() if row.failed else (row.value, *row.interval)))]
    return Dots(spanning(held, most, (row.interval for row in rows if row.failed)), tuple(rows))


def _check(cell: "Cell", name: str) -> "Check | None":
    return next((check for check in cell.checks if check.name == name), None)


def _scaled(check: "Check", factor: float) -> Interval:
    low, high = check.ci95 or (check.value or 0.0, check.value or 0.0)
    return factor * low, factor * high


def _ends(interval: Interval, decimals: int) -> str:
    return f"{interval[0]:.{decimals}f} to {interval[1]:.{decimals}f}"


@dataclass(frozen=True)
class Bars:
    """Latencies on one device with one number of threads.

    Attributes:
        device: device and compute unit.
        threads: number of threads.
        source: see `bench.results.Source`.
        machines: names that the device gave itself.
        speedups_to: artifacts that speedups are relative to.
        axis: milliseconds.
        results: one per artifact.
    """

    device: str
    threads: int
    source: str
    machines: tuple[str, ...]
    speedups_to: tuple[str, ...]
    axis: Axis
    results: tuple["Result", ...]


def latency_bars(measured: Iterable["Result"]) -> list[Bars]:
    """Return the latencies, without estimates and emulations, by device and threads; devices before this machine."""
    groups: dict[tuple[bool, str, int], list[Result]] = {}
    for item in measured:
        if item.is_latency and item.p50_ms is not None:
            groups.setdefault((item.source != "device", item.place, item.threads), []).append(item)
    return [
        Bars(
            device,
            threads,
            found[0].source,
            _unlike(item.machine for item in found),
            _unlike(item.speedup_to for item in found),
            spanning([0.0, *(value for item in found for value in (item.p50_ms, item.p90_ms) if value is not None)]),
            tuple(found),
        )
        for (_, device, threads), found in sorted(groups.items())
    ]


def _unlike(texts: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text is not None))


@dataclass(frozen=True)
class Point:
    """One artifact on a pair of axes.

    Attributes:
        format: its format.
        shape: id of the mark that stands for the format.
        label: text beside the mark.
        failed: its verdict.
        x: cost.
        y: accuracy, percent.
        interval: 95 % interval of `y`.
        text: full description.
    """

    format: str

    shape: str
    label: str
    failed: bool
    x: float
    y: float
    interval: Interval
    text: str


@dataclass(frozen=True)
class Label:
    """A text above one or several neighboring points; `x` and `y` in percent from the top left."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Scatter:
    """Accuracy over a cost, such as size or latency; `pytorch` is PyTorch's own accuracy, percent."""

    x_title: str
    y_title: str
    x_axis: Axis
    y_axis: Axis
    pytorch: float
    points: tuple[Point, ...]
    labels: tuple[Label, ...]


def scatters(result: "Gate", latencies: Sequence[Bars]) -> list[Scatter]:
    """Return the metric (without labels, agreement) over size, and over the latency on each device."""
    sizes = {cell.artifact.path: cell.artifact.bytes / 1e6 for cell in result.cells}
    costs = [("size, MB", sizes)]
    for bars in latencies:
        threads = "1 thread" if bars.threads == 1 else f"{bars.threads} threads"
        found = {item.path: item.p50_ms for item in bars.results if item.p50_ms is not None}
        costs.append((f"p50 on {bars.device}, {threads}, ms", found))
    made = [_scatter(result, title, cost) for title, cost in costs]
    return [item for item in made if len(item.points) > 1]


def _scatter(result: "Gate", x_title: str, cost: dict[str, float]) -> Scatter:
    points = [
        _point(cell, cost[cell.artifact.path], *placed, x_title)
        for cell in result.cells
        if cell.artifact.path in cost
        for placed in [_accuracy(cell, result.reference.score)]
        if placed is not None
    ]
    pytorch = 100 if result.reference.score is None else 100 * result.reference.score
    x_axis = spanning([0.0, *(point.x for point in points)])
    sound = [value for point in points if not point.failed for value in point.interval]
    y_axis = spanning([pytorch, *sound], 100.0, (point.interval for point in points))
    title = "agreement, %" if result.reference.score is None else f"{result.metric_title}, %"
    return Scatter(x_title, title, x_axis, y_axis, pytorch, tuple(points), _labels(points, x_axis, y_axis))


def _accuracy(cell: "Cell", score: float | None) -> tuple[float, Interval] | None:
    """Return an artifact's accuracy and its interval, percent: with labels PyTorch's minus the paired drop."""
    name = "agreement" if score is None else "drop_pp"
    check = _check(cell, name)
    if check is None or check.value is None:
        return None
    if score is None:
        return 100 * check.value, _scaled(check, 100)
    low, high = _scaled(check, 1)
    return 100 * score - check.value, (100 * score - high, min(100 * score - low, 100.0))


def _point(cell: "Cell", x: float, y: float, interval: Interval, x_title: str) -> Point:
    artifact = cell.artifact
    text = f"{short_name(artifact)}: {y:.1f}% ({_ends(interval, 1)}), {x_title} {x:.1f}"
    return Point(
        artifact.format, _shape(artifact.format), artifact.precision, cell.status == "failed", x, y, interval, text
    )


def _shape(format_name: str) -> str:
    return SHAPES[list(BACKENDS).index(format_name) % len(SHAPES)]


def _labels(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> tuple[Label, ...]:
    """Return the precisions as labels above the points; those that would overlap become one."""
    groups: list[list[tuple[float, float, str]]] = []
    for x, y, text in sorted((x_axis.at(point.x), y_axis.at(point.y), point.label) for point in points):
        for group in groups:
            near = _NEAR_X if text in {named for _, _, named in group} else _NEAR_X / 2
            if x - group[0][0] < near and abs(y - group[0][1]) < _NEAR_Y:
                group.append((x, y, text))
                break
        else:
            groups.append([(x, y, text)])
    return tuple(
        Label(
            round(sum(x for x, _, _ in group) / len(group), 2),
            round(100 - max(y for _, y, _ in group), 2),
            _listed([text for _, _, text in group]),
        )
        for group in groups
    )


def _listed(texts: Iterable[str]) -> str:
    unlike = list(dict.fromkeys(texts))
    more = f" +{len(unlike) - _NAMED}" if len(unlike) > _NAMED else ""
    return ", ".join(unlike[:_NAMED]) + more


@dataclass(frozen=True)
class ClassRow:
    """A class that changed in some artifact; `cells` has its changes by artifact, None where there are none."""

    label: str
    cells: tuple["ClassChange | None", ...]


@dataclass(frozen=True)
class Classes:
    """Classes by artifact; `most` is the largest fall or rise in any cell, percentage points."""

    columns: tuple["Cell", ...]
    rows: tuple[ClassRow, ...]
    most: float


def class_drift(result: "Gate") -> Classes:
    """Return the classes and artifacts whose score changed, those that lost most first."""
    columns = tuple(cell for cell in result.cells if cell.comparison is not None and cell.comparison.classes)
    known = [{item.index: item for item in cell.comparison.classes} for cell in columns if cell.comparison is not None]
    losses = {index: 0.0 for items in known for index in items}
    for items in known:
        for index, item in items.items():
            losses[index] += item.drop_pp
    rows = tuple(
        ClassRow(
            result.labels[index] if result.labels else f"class {index}",
            tuple(items.get(index) for items in known),
        )
        for index in sorted(losses, key=lambda index: (-losses[index], index))
    )
    most = max((abs(item.drop_pp) for items in known for item in items.values()), default=0.0)
    return Classes(columns, rows, most)
