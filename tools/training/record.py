"""The record of a training: `log.jsonl`, `curve.png` and `recipe.json`."""

import json
import os
from pathlib import Path
from statistics import median
from typing import Any

from tools.training.objectives import OBJECTIVES
from tools.training.recipe import Recipe, sized

LOG, CURVE, RECIPE = "log.jsonl", "curve.png", "recipe.json"


class Log:
    """`log.jsonl`: one JSON object a line; trained lines have `loss`, validations `score`, all `step` and `seconds`."""

    def __init__(self, path: Path, step: int) -> None:
        """Open it to go on after `step`: lines of later steps, done but lost in a kill, are dropped."""
        self._path = path
        kept = [line for line in self.lines() if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def add(self, **entry: Any) -> None:
        """Append a line."""
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """All lines; one that a kill cut short is left out."""
        if not self._path.exists():
            return []
        lines = []
        for text in self._path.read_text(errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and "step" in line:
                lines.append(line)
        return lines


def write_text(path: Path, text: str) -> None:
    """Write a text file, which appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def images_per_second(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The median training speed at each size, by size in px."""
    speeds: dict[str, list[float]] = {}
    for line in lines:
        if "loss" in line:
            speeds.setdefault(str(line["size"]), []).append(line["images_per_s"])
    return {size: round(median(values), 1) for size, values in speeds.items()}


def draw_curve(path: Path, lines: list[dict[str, Any]], recipe: Recipe) -> None:
    """Draw training loss and validation score over the steps, with the stages marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    loss_axes = figure.add_subplot()
    accuracy_axes = loss_axes.twinx()
    trained = [line for line in lines if "loss" in line]
    judged = [line for line in lines if "score" in line]
    loss_axes.plot([line["step"] for line in trained], [line["loss"] for line in trained], "C0", linewidth=1)
    accuracy_axes.plot([line["step"] for line in judged], [100 * line["score"] for line in judged], "C1.-")
    start = 0
    for stage, end in zip(recipe.schedule, recipe.stage_ends, strict=True):
        loss_axes.axvline(end, color="0.8", linewidth=1)
        loss_axes.text(
            (start + end) / 2, 1.01, f"{sized(stage.size)} px", transform=loss_axes.get_xaxis_transform(), ha="center"
        )
        start = end
    loss_axes.set_xlim(0, recipe.steps)
    loss_axes.set_xlabel(f"step ({recipe.batch} images)")
    loss_axes.set_ylabel("training loss", color="C0")
    accuracy_axes.set_ylabel(f"validation {OBJECTIVES[recipe.task].title}, moving average (%)", color="C1")
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png")
    partial.replace(path)
