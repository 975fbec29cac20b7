"""The comparison of two interpreters, on a terminal and in JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cloformer_deploy.report.cells import Rendered, add_row, new_table
from cloformer_deploy.system.text import counted

if TYPE_CHECKING:
    from cloformer_deploy.blame import CrossCheck, Witnessed


def cross_check_json(found: "Sequence[CrossCheck]") -> dict[str, Any]:
    """Return the key `cross_check`; nothing where the interpreters were not compared."""
    return {"cross_check": [asdict(item) for item in found]} if found else {}


def cross_check_tables(found: "Sequence[CrossCheck]") -> Rendered:
    """Yield for each precision a table of the worst node of each kind of operator, and what is more than rounding."""
    for item in found:
        columns = (f"{item.precision}: kind", "worst node in", "Core ML, dB", "Core AI, dB")
        table = new_table(*columns, numeric=(2, 3))
        for row in item.worst:
            add_row(table, row.kind, row.layer or row.node, _db(row.coreml_db), _db(row.coreai_db))
        yield table
        faults = "none adds more than rounding" if not item.faults else f"more than rounding in {len(item.faults)}"
        images = counted(item.n, "image")
        yield f"{item.precision}: {item.nodes} nodes in both interpreters on {images}; {faults}."
        yield from (f"{item.precision}: {_fault(row)}" for row in item.faults)


def _fault(row: "Witnessed") -> str:
    ours, theirs = (-math.inf if value is None else value for value in (row.coreml_db, row.coreai_db))
    wrong = "Core ML's" if ours < theirs else "Core AI's"
    figures = f"{_db(row.coreml_db)} dB in Core ML, {_db(row.coreai_db)} dB in Core AI"
    return f"{row.layer or row.node} ({row.node}, {row.kind}): {wrong} is wrong: {figures}"


def _db(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"
