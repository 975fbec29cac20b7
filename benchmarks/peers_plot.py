"""Draw accuracy over latency."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers_standing import LOWERED, PLAIN, Standing, front
from cloformer_deploy.system.files import replaced

_BLUE, _ORANGE, _GREY = "#0b61a4", "#b45f06", "#555555"
_WIDTH, _HEIGHT = 10.0, 8.6
"""Inches, at 72 points."""
_TICKS_MS = (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80)
_DIRECTIONS = (
    (6, -3, "left"), (-6, -3, "right"), (4, 5, "left"), (4, -11, "left"), (-4, 5, "right"), (-4, -11, "right"),
    (0, 7, "center"), (0, -14, "center"), (12, 14, "left"), (12, -20, "left"), (-12, 14, "right"), (-12, -20, "right"),
)  # fmt: skip
"""Offsets of a label from its mark, in points, the best first; distant labels get a line."""
_REACHES = (1.0, 1.6, 2.4, 3.4, 5.0)
_FARTHER = 15.0
"""Square pixels of something else that a label rather covers than be so many times as far from its mark."""
_ROOM = 1.5
"""Pixels around a label that stay free."""
_CLOFORMER = {
    PLAIN: ("s", "white", "CloFormer, plain"),
    LOWERED: ("o", _BLUE, "CloFormer, lowered"),
    "litert": ("^", _BLUE, "CloFormer, lowered, LiteRT"),
    "litert int8": ("D", "white", "CloFormer, int8, LiteRT, at float32's accuracy"),
}
"""Mark, its fill, and legend of each form."""


class _Mark(NamedTuple):
    """A point of the image; no text, no label."""

    ms: float
    top1: float
    text: str
    colour: str


def digest(found: list[Standing]) -> str:
    """Return the SHA-256 of the results that a plot shows; its file carries it."""
    return hashlib.sha256(json.dumps([asdict(item) for item in found]).encode()).hexdigest()


def draw(found: list[Standing], path: Path) -> None:
    """Draw the results, SVG, whole or not at all."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 10, "svg.hashsalt": "cloformer-deploy", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), facecolor="white")
        canvas: Any = FigureCanvasAgg(figure)
        axes = figure.add_axes((0.07, 0.075, 0.915, 0.87))
        _frame(axes, found)
        _fronts(axes, found)
        marks = [*_peers(axes, found), *_cloformers(axes, found)]
        axes.legend(loc="upper left", framealpha=0.95, edgecolor="#dddddd", fontsize=9.5)
        canvas.draw()  # places are known from then on
        _label(axes, canvas.get_renderer(), marks)
        with replaced(path) as staged:
            figure.savefig(staged, format="svg", metadata={"Date": None, "Description": digest(found)})


def _frame(axes: Any, found: list[Standing]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(found[0].ms * 0.88, found[-1].ms * 1.15)
    shown = [value for item in found for value in (item.top1, item.distilled) if value is not None]
    axes.set_ylim(min(shown) - 0.5, max(shown) + 0.6)
    axes.set_xticks([tick for tick in _TICKS_MS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("latency, ms: one thread, batch 1, float32 but for int8 (logarithmic)")
    axes.set_ylabel("published ImageNet-1k top-1, %")
    axes.grid(color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("CloFormer, plain and lowered, among timm's models of its size, plain in ONNX Runtime", loc="left")


def _fronts(axes: Any, found: list[Standing]) -> None:
    for teachers, style, colour, legend in (
        (False, "-", _GREY, "front without teachers"),
        (True, "--", _ORANGE, "front with teachers"),
    ):
        members = front(found, teachers=teachers)
        values = [item.accuracy(teachers=teachers) for item in members]
        axes.plot(
            [item.ms for item in members], values, ls=style, lw=1, color=colour, alpha=0.6, label=legend, zorder=1
        )


def _peers(axes: Any, found: list[Standing]) -> list[_Mark]:
    graphs = [item.variant for item in found]
    marks = []
    for item in found:
        if item.cloformer:
            continue
        title = f"{item.variant} {item.side}" if graphs.count(item.variant) > 1 else item.variant
        if item.top1 is not None:
            axes.plot(item.ms, item.top1, "o", ms=5, color=_GREY)
            marks.append(_Mark(item.ms, item.top1, title, _GREY))
        if item.distilled is not None:
            axes.plot(item.ms, item.distilled, "o", ms=5, markerfacecolor="white", color=_ORANGE)
            marks.append(_Mark(item.ms, item.distilled, title, _ORANGE))
    axes.plot([], [], "o", ms=5, color=_GREY, label="trained without a teacher")
    axes.plot([], [], "o", ms=5, markerfacecolor="white", color=_ORANGE, label="distilled")
    return marks


def _cloformers(axes: Any, found: list[Standing]) -> list[_Mark]:
    marks = []
    for candidate, (mark, face, legend) in _CLOFORMER.items():
        forms = [item for item in found if item.cloformer and item.candidate == candidate]
        places = [(item.ms, item.top1 or 0.0) for item in forms]
        axes.plot(*zip(*places, strict=True), mark, ms=8, color=_BLUE, markerfacecolor=face, label=legend, zorder=4)
        texts = [f"CloFormer-{item.variant}" if candidate == PLAIN else "" for item in forms]
        marks += [_Mark(*place, text, _BLUE) for place, text in zip(places, texts, strict=True)]
    return marks


def _label(axes: Any, renderer: Any, marks: list[_Mark]) -> None:
    """Put each text where it covers least of what is there."""
    from matplotlib.transforms import Bbox

    points = axes.transData.transform([(mark.ms, mark.top1) for mark in marks])
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in points]
    taken.append(axes.get_legend().get_window_extent(renderer))
    for mark in sorted(marks, key=lambda mark: mark.colour != _BLUE):
        if mark.text:
            bold = mark.colour == _BLUE
            label = axes.annotate(
                mark.text, (mark.ms, mark.top1), xytext=(0, 0), textcoords="offset points", color=mark.colour,
                fontsize=11 if bold else 8, fontweight="bold" if bold else "normal",
                arrowprops={"arrowstyle": "-", "lw": 0.5, "color": mark.colour, "alpha": 0.6},
            )  # fmt: skip
            taken.append(_place(label, renderer, axes.get_window_extent(renderer), taken))


def _place(label: Any, renderer: Any, inside: Any, taken: list[Any]) -> Any:
    """Try the places one after the other, and stay at the best: its box."""
    tried: list[tuple[float, tuple[float, float], str, Any]] = []
    for reach in _REACHES:
        for x, y, side in _DIRECTIONS:
            label.set(position=(x * reach, y * reach), ha=side)
            box = _text_box(label, renderer)
            outside = box.width * box.height - _shared(box, inside)
            cost = sum(_shared(box, other) for other in taken) + 5 * outside + _FARTHER * (reach - 1)
            tried.append((cost, (x * reach, y * reach), side, box))
    _, position, side, box = min(tried, key=lambda place: place[0])
    label.set(position=position, ha=side)
    return box


def _text_box(label: Any, renderer: Any) -> Any:
    """Return the extent of the text alone, without its line."""
    from matplotlib.text import Text

    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer).padded(_ROOM)


def _shared(a: Any, b: Any) -> float:
    """The area that two boxes share."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(max(width, 0) * max(height, 0))
