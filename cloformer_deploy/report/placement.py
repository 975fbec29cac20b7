"""The placement of a file's operators on an NPU, on a terminal and in JSON."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cloformer_deploy.report.cells import Rendered, add_row, new_table
from cloformer_deploy.system.text import counted

if TYPE_CHECKING:
    from cloformer_deploy.bundle.manifest import NpuCheck
    from cloformer_deploy.npu import Compiled, Estimate, Placer

SLOWEST = 5
"""Layers that are named in the sentence on cycles."""


def placement_json(compiled: "Compiled | None") -> dict[str, Any]:
    """Return the keys `placement`, `estimate`, `layers` and `notes` of `inspect`; none where no NPU was asked about."""
    if compiled is None:
        return {}
    estimate = None if compiled.estimate is None else asdict(compiled.estimate)
    return {
        "placement": [asdict(item) for item in compiled.placement],
        "estimate": estimate,
        "layers": [asdict(item) for item in compiled.layers],
        "notes": list(compiled.notes),
        "predicted": [asdict(item) for item in compiled.predicted],
    }


def placement_tables(name: str, placer: "Placer", compiled: "Compiled") -> Rendered:
    """Yield a table with a row for each type of operator and unit, and a sentence.

    Args:
        name: of the file.
        placer: what it was compiled for.
        compiled: its compiler's account.
    """
    for title, rows in ((placer.title, compiled.placement), (f"{placer.title}, predicted", compiled.predicted)):
        table = new_table(f"on {title}", "count", "MACs", "cycles", "unit", "reason", numeric=(1, 2, 3))
        for item in rows:
            shares = (item.share_of_macs, item.share_of_cycles)
            add_row(table, item.operator, str(item.count), *map(share, shares), item.unit, item.reason)
        if rows:
            yield table
    yield from (f"{name}: {line}" for line in placement_sentences(placer, compiled))


def placement_sentences(placer: "Placer", compiled: "Compiled") -> Iterator[str]:
    """Yield what there is to say of a placement: what told it, known faults, the estimate, the slowest layers."""
    how = f"told by {placer.compiler}" if compiled.bytes is None else f"compiled by {placer.compiler}"
    size = "" if compiled.bytes is None else f", {compiled.bytes / 1e6:.1f} MB"
    yield f"{counted(compiled.left_on_cpu, 'operator')} left on the CPU; {how}{size}."
    yield from (f"{note}." for note in compiled.notes)
    if compiled.estimate is not None:
        yield f"{estimated(compiled.estimate)}."
    cycles: Counter[tuple[str, str]] = Counter()
    for layer in compiled.layers:
        cycles[layer.name, layer.operator] += layer.cycles or 0
    total = cycles.total()
    if total:
        slowest = cycles.most_common(SLOWEST)
        shown = ", ".join(f"{name} ({operator}, {count / total:.1%})" for (name, operator), count in slowest)
        yield f"most cycles: {shown}."


def npu_line(name: str, npus: "Sequence[NpuCheck] | None") -> Iterator[str]:
    """Yield what compilers of NPUs said of a file when it was exported; nothing for files that are for none."""
    if npus is None:
        return
    if not npus:
        yield f"{name}: unverified: no compiler of its NPU was asked when it was exported."
        return
    said = []
    for item in npus:
        ran = f", {item.sqnr_db:.1f} dB in its simulator" if item.sqnr_db is not None else ""
        kept = "" if item.file is None else f", kept as {item.file.path}"
        said.append(f"{item.device} ({item.left_on_cpu or 'none'} on the CPU{ran}{kept})")
    yield f"{name}: compiled for {', '.join(said)}."


def estimated(estimate: "Estimate") -> str:
    """Return an estimate in words, with what it assumes."""
    memory = ", ".join(f"{size / 1e6:.2f} MB of {kind}" for kind, size in estimate.memory_bytes.items() if size)
    return f"estimated {estimate.ms:.2f} ms on the NPU, {memory}, of {estimate.assumes}; not measured"


def share(value: float | None) -> str:
    """Return a share in percent; a dash where it is not known."""
    return "-" if value is None else f"{value:.1%}"
