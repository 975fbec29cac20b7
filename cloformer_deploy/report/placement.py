"""The placement of a file's operators on an NPU, on a terminal and in JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cloformer_deploy.report.cells import Rendered, add_row, new_table
from cloformer_deploy.system.text import counted

if TYPE_CHECKING:
    from cloformer_deploy.npu import Compiled, Npu


def placement_json(compiled: "Compiled | None") -> dict[str, Any]:
    """Return the key `placement` of `inspect`; none where no NPU was asked about."""
    return {} if compiled is None else {"placement": [asdict(item) for item in compiled.placement]}


def placement_tables(name: str, npu: "Npu", compiled: "Compiled") -> Rendered:
    """Yield a table with a row for each type of operator and unit, and a sentence.

    Args:
        name: of the file.
        npu: what it was compiled for.
        compiled: its compiler's account.
    """
    table = new_table(f"on {npu.title}", "count", "multiply-accumulates", "unit", "reason", numeric=(1, 2))
    for item in compiled.placement:
        share = "-" if item.share_of_macs is None else f"{item.share_of_macs:.1%}"
        add_row(table, item.operator, str(item.count), share, item.unit, item.reason)
    yield table
    left = sum(item.count for item in compiled.placement if item.unit != "NPU")
    share = "" if compiled.npu_share is None else f", {compiled.npu_share:.1%} of the multiply-accumulates"
    yield (
        f"{name}: {counted(left, 'operator')} left on the CPU{share} on the NPU; compiled by {npu.compiler}, "
        f"{compiled.bytes / 1e6:.1f} MB."
    )
