"""Plot SQNR over depth: the error that each layer adds, and that of all layers so far."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.report.blame import shown_path
from cloformer_deploy.system.files import replaced

if TYPE_CHECKING:
    from cloformer_deploy.blame import Blame, Investigation, Layer

_NAMED = 5
_OFFSETS = ((-9, -12), (9, 8), (9, -12), (-9, 8), (12, -3))
"""Offsets of the numbers from their points, in points: neighbors do not cover one another."""
_ROOM_DB, _LOWEST_DB = 20.0, -20.0
_WIDTH, _HEIGHT = 7.2, 6.0
"""Size in inches. On a phone, 390 pixels wide, text of 11 points can still be read."""
_BLUE, _ORANGE, _RED, _GREY = "#0b61a4", "#b45f06", "#c00020", "#666666"


def draw_blame(found: "Investigation", path: Path) -> None:
    """Draw a plot, SVG or PNG by the suffix, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 11, "svg.hashsalt": "cloformer-deploy", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), facecolor="white", layout="constrained")
        _draw(figure, found.blame)
        with replaced(path) as staged:
            figure.savefig(staged, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw(figure: Any, blame: "Blame") -> None:
    axes = figure.add_subplot()
    ordered = sorted(blame.layers, key=lambda layer: layer.depth)
    depths = [layer.depth for layer in ordered]
    worst = blame.faults[:_NAMED] or blame.layers[:_NAMED]
    axes.plot(
        depths,
        [layer.sqnr_db for layer in ordered],
        linestyle="none",
        marker="o",
        markersize=3.5,
        color=_ORANGE,
        alpha=0.7,
        label="each layer's own error",
    )
    axes.plot(depths, [layer.cumulative_db for layer in ordered], color=_BLUE, lw=2, label="all errors so far")
    _stages(axes, ordered)
    axes.set_ylabel("SQNR, dB")
    axes.set_xlabel("layers, in the order of the model")
    axes.set_xlim(-1, len(ordered))
    axes.set_ylim(*_limits(ordered))
    _mark(axes, worst)
    axes.grid(axis="y", color="#dddddd", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(_title(blame), loc="left", fontsize=12)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    names = "\n".join(f"{number}  {_label(layer)}" for number, layer in enumerate(worst, 1))
    figure.supxlabel(names, x=0.02, ha="left", fontsize=10.5, color=_RED)


def _limits(ordered: "list[Layer]") -> tuple[float, float]:
    """Return the ends of the SQNR axis, without the few layers far above the rest, such as layers kept in float."""
    so_far = sorted(layer.cumulative_db for layer in ordered)
    lowest = min(so_far[0], min((layer.sqnr_db for layer in ordered if not layer.non_finite), default=0.0))
    return max(lowest, _LOWEST_DB) - 8, so_far[len(so_far) * 9 // 10] + _ROOM_DB


def _mark(axes: Any, worst: "tuple[Layer, ...]") -> None:
    """Draw a number at each of the worst layers; the names are below the plot, where there is room."""
    bottom, _ = axes.get_ylim()
    for number, layer in enumerate(worst, 1):
        place = (layer.depth, max(layer.sqnr_db, bottom + 4))
        axes.plot(*place, marker="o", markersize=6, color=_RED)
        axes.annotate(
            str(number),
            place,
            xytext=_OFFSETS[number - 1],
            textcoords="offset points",
            ha="center",
            color=_RED,
            fontweight="bold",
            fontsize=12,
        )


def _stages(axes: Any, ordered: "list[Layer]") -> None:
    """Draw a line where each stage begins."""
    seen: set[str] = set()
    for layer in ordered:
        stage = ".".join(layer.path.split(".")[:2])
        if stage.startswith("layers.") and stage not in seen:
            seen.add(stage)
            axes.axvline(layer.depth - 0.5, color=_GREY, lw=0.8, ls=":")
            axes.annotate(
                stage, (layer.depth, 1), xycoords=("data", "axes fraction"), xytext=(2, -12),
                textcoords="offset points", color=_GREY, fontsize=10,
            )  # fmt: skip


def _title(blame: "Blame") -> str:
    sqnr = "NaN" if blame.file.sqnr_db is None else f"{blame.file.sqnr_db:.1f} dB"
    return f"{blame.path}: outputs {sqnr}"


def _label(layer: "Layer") -> str:
    own = "NaN" if layer.non_finite else f"{layer.sqnr_db:.1f} dB"
    return f"{shown_path(layer)}: {own}, {layer.share:.0%} of the noise"
