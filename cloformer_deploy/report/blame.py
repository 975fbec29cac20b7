"""The result of `blame` on a terminal and in JSON."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy.report.cells import Rendered, add_row, new_table
from cloformer_deploy.system.text import counted

if TYPE_CHECKING:
    from cloformer_deploy.blame import Blame, Distance, Fix, Investigation, Layer

ROWS = 12
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


def blame_json(found: "Investigation") -> Mapping[str, Any]:
    """Return everything that was found; a figure that is infinite or was not measured is null."""
    blame = dataclasses.asdict(found.blame)
    blame["layers"] = [{**layer, "output_noise": _finite(layer["output_noise"])} for layer in blame["layers"]]
    exclusions = found.exclusions
    return {
        "schema_version": 1,
        "images": found.images,
        **blame,
        "fix": dataclasses.asdict(found.fix),
        "exclusions": exclusions.model_dump(mode="json") if exclusions is not None else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def blame_tables(found: "Investigation", plot: Path | None, exclusions: Path | None) -> Rendered:
    """Yield the verdict, the worst layers, SQNR over depth, and what to do."""
    blame = found.blame
    images = f"{counted(blame.n, 'image')} ({found.images})"
    yield f"{blame.path}, run by {blame.runtime}, compared with PyTorch on {images}:"
    table = new_table("", "agree", "SQNR dB", numeric=(1, 2))
    for what, file in (("the file", blame.file), ("a re-export", blame.reexported)):
        add_row(table, what, f"{file.agreement:.1%}", _outputs_db(file))
    yield table
    yield from (f"Note: {finding}." for finding in blame.findings)
    yield _verdict(blame)
    yield _layer_table(blame)
    yield f"SQNR over depth, {_ends(blame)}:"
    yield _sparkline(blame)
    yield _advice(blame, found.fix)
    if plot is not None:
        yield f"Plot: {plot!s}"
    if exclusions is not None:
        yield _written(found, exclusions)


def _layer_table(blame: "Blame") -> Any:
    table = new_table("layer", "operator", "adds dB", "re-export", "so far", "of noise", numeric=(2, 3, 4, 5))
    for layer in blame.layers[:ROWS]:
        mark = "NaN " if layer.non_finite else "* " if layer.fault else ""
        again = "-" if layer.reexport_sqnr_db is None else f"{layer.reexport_sqnr_db:.1f}"
        own = "NaN" if layer.non_finite else f"{layer.sqnr_db:.1f}"
        add_row(
            table,
            f"{mark}{shown_path(layer)}",
            shown_kind(layer),
            own,
            again,
            f"{layer.cumulative_db:.1f}",
            f"{layer.share:.1%}",
        )
    return table


def shown_path(layer: "Layer") -> str:
    """Return the module's path, or `(model)` for operators that belong to no module."""
    return layer.path or "(model)"


def shown_kind(layer: "Layer") -> str:
    """Return the kind of operator, abbreviated for a table."""
    return "norm" if layer.kind == "normalization" else layer.kind


def _verdict(blame: "Blame") -> str:
    faults = blame.faults
    if not faults:
        return "Every layer computes the same as in a re-export; these add the most error:"
    first = faults[0]
    if first.non_finite:
        return f"NaN or infinity first occurs in {shown_path(first)}, and not in a re-export:"
    before = "" if first.reexport_sqnr_db is None else f", where a re-export has {first.reexport_sqnr_db:.1f}"
    more = f" So do {counted(len(faults) - 1, 'other')} (*)." if len(faults) > 1 else ""
    return f"{shown_path(first)} computes something else: {first.sqnr_db:.1f} dB{before}.{more}"


def _advice(blame: "Blame", fix: "Fix") -> str:
    if fix.advice == "export_again":
        return f"Next: export it again. A re-export of the same weights has {_outputs_db(blame.reexported)} dB."
    made = f"{counted(len(fix.trials), 'file')} made and run"
    if fix.advice == "exclude_layers" and fix.file is not None:
        names = ", ".join(fix.excluded_layers)
        return f"With {names} in float: {_outputs_db(fix.file)} dB instead of {_outputs_db(blame.reexported)} ({made})."
    if fix.trials:
        best = max(fix.trials, key=lambda trial: trial.file.sqnr_db or -math.inf)
        return (
            f"No short list of parts in float reaches {fix.goal_db:.1f} dB; {len(best.excluded_layers)} of them give "
            f"{_outputs_db(best.file)} ({made})."
        )
    return "A re-export is no better, and no layer can be excluded: this is the cost of the precision."


def _written(found: "Investigation", path: Path) -> str:
    if found.exclusions is None:
        return f"{path!s} was not written: there are no layers to exclude."
    named = f"--format {found.blame.format} --precision {found.blame.precision}"
    return f"Excluded layers: {path!s}; use it with: cloformer-deploy export {named} --recipe {path!s}"


def _outputs_db(file: "Distance") -> str:
    return "NaN" if file.sqnr_db is None else f"{file.sqnr_db:.1f}"


def _in_order(blame: "Blame") -> "list[Layer]":
    return sorted(blame.layers, key=lambda layer: layer.depth)


def _ends(blame: "Blame") -> str:
    values = [layer.cumulative_db for layer in blame.layers]
    return f"{min(values):.0f} to {max(values):.0f} dB, from the first layer to the outputs"


def _sparkline(blame: "Blame") -> str:
    """Draw the cumulative SQNR over depth; a column shows the lowest value of its layers."""
    values = [layer.cumulative_db for layer in _in_order(blame)]
    width = min(_WIDTH, len(values))
    columns = [_lowest(values, column, width) for column in range(width)]
    low, high = min(columns), max(columns)
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join(_BARS[round((value - low) / step)] for value in columns)


def _lowest(values: Sequence[float], column: int, columns: int) -> float:
    return min(values[column * len(values) // columns : (column + 1) * len(values) // columns])
