"""The comparison of two interpreters, on a terminal and in JSON."""

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
            add_row(table, row.kind, row.layer or row.node, f"{row.coreml_db:.1f}", f"{row.coreai_db:.1f}")
        yield table
        faults = "none adds more than rounding" if not item.faults else f"{len(item.faults)} add more than rounding"
        images = counted(item.n, "image")
        yield f"{item.precision}: {item.nodes} nodes in both interpreters on {images}; {faults}."
        yield from (f"{item.precision}: {_fault(row)}" for row in item.faults)


def _fault(row: "Witnessed") -> str:
    wrong = "Core ML's" if row.coreml_db < row.coreai_db else "Core AI's"
    figures = f"{row.coreml_db:.1f} dB in Core ML, {row.coreai_db:.1f} dB in Core AI"
    return f"{row.layer or row.node} ({row.node}, {row.kind}): {wrong} is wrong: {figures}"
