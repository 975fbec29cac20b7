"""The gate's answer: tables and JSON here; Markdown, JUnit XML and annotations for continuous integration."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cloformer_deploy.report.cells import STATUS, Rendered, add_row, new_table, percent, short_name

if TYPE_CHECKING:
    from cloformer_deploy.gate import Cell, Check, Gate

CLASSES_SHOWN = 5
_SIGNIFICANT = 0.05


def gate_json(result: "Gate") -> dict[str, Any]:
    """The whole answer; see docs/gate.md."""
    return {
        "schema_version": 1,
        "passed": not result.failed,
        "images": result.images,
        "config": result.config,
        "reference": {"runtime": "pytorch", "n": result.n, "top1": result.top1},
        "artifacts": [_cell_json(cell, result.labels) for cell in result.cells],
        "absent": [
            {"format": item.format, "precision": item.precision, "target": item.target} for item in result.absent
        ],
    }


def _cell_json(cell: "Cell", labels: tuple[str, ...] | None) -> dict[str, Any]:
    artifact, drift = cell.artifact, cell.drift
    measured: dict[str, Any] = {}
    if drift is not None:
        labeled = drift.labeled > 0
        measured = {
            "n": drift.n,
            "top1_agreement": drift.top1_agreement,
            "top1": drift.correct / drift.labeled if labeled else None,
            "top1_drop_pp": drift.top1_drop_pp if labeled else None,
            "smallest_drop_pp": drift.smallest_drop_pp() if labeled else None,
            "sqnr_db": drift.sqnr_db if drift.measured else None,
            "cosine_min": drift.cosine_min if drift.measured else None,
            "kl_divergence": drift.kl_divergence if drift.measured else None,
            "max_abs_diff": drift.max_abs_diff if drift.measured else None,
            "operators": cell.operators,
        }
    return {
        "path": artifact.path,
        "format": artifact.format,
        "precision": artifact.precision,
        "target": artifact.target,
        "runtime": cell.runtime,
        "status": cell.status,
        **measured,
        "checks": [vars(check) for check in cell.checks],
        "causes": list(cell.causes),
        "classes": [{**vars(item), "label": labels[item.index] if labels else None} for item in cell.classes],
    }


def gate_tables(result: "Gate") -> Rendered:
    """One row an artifact, then what failed, is undecided or suspicious, and what to do."""
    top1 = f"top-1 {result.top1:.2%}" if result.top1 is not None else "without labels"
    limits = f"limits of {result.config}" if result.config else "built-in limits"
    yield f"PyTorch on {result.n} images ({result.images}): {top1}; {limits}."
    table = new_table("artifact", "", "agree", "drop pp (95 %)", "SQNR dB", "checks", numeric=(2, 3, 4))
    for cell in result.cells:
        add_row(table, *_row(cell))
    yield table
    yield from lines(result)


def figures(cell: "Cell") -> tuple[str, str, str]:
    """Agreement, drop with its interval, and SQNR, for a table."""
    drift = cell.drift
    agreement = drop = sqnr = "-"
    if drift is not None:
        agreement = percent(drift.top1_agreement)
        if drift.labeled:
            low, high = drift.top1_drop_ci95_pp()
            drop = f"{drift.top1_drop_pp:.2f} ({low:.2f}, {high:.2f})"
        if drift.measured:
            sqnr = f"{drift.sqnr_db:.1f}"
    return agreement, drop, sqnr


def _row(cell: "Cell") -> list[Any]:
    outcomes = [check.outcome for check in cell.checks]
    counted = [f"{outcomes.count(name)} {name}" for name in ("failed", "undecided", "suspicious") if name in outcomes]
    return [short_name(cell.artifact), STATUS[cell.status], *figures(cell), ", ".join(counted) or "all passed"]


def lines(result: "Gate") -> Iterator[str]:
    """What there is to say beside the figures, a sentence each."""
    for cell in result.cells:
        name = short_name(cell.artifact)
        for check in cell.checks:
            if check.outcome != "passed":
                yield f"{name}: {check.outcome}: {sentence(check)}"
        for cause in cell.causes:
            yield f"{name}: cause: {cause}"
        for item in [item for item in cell.classes if item.p_value < _SIGNIFICANT][:CLASSES_SHOWN]:
            label = result.labels[item.index] if result.labels else f"class {item.index}"
            yield f"{name}: {label}: {item.lost} lost, {item.gained} gained of {item.n} (p {item.p_value:.1e})"
        if cell.drift is not None and cell.drift.labeled and cell.status == "passed":
            drift = cell.drift
            limit = next(check.limit for check in cell.checks if check.name == "top1_drop_pp")
            yield (
                f"{name}: {drift.labeled:,} images do not tell a drop under {drift.smallest_drop_pp():.2f} pp from "
                f"none; for one of {limit:.2f} pp it takes {drift.images_for(limit or 1):,}"
            )
    for old in result.absent:
        yield f"{old.format} {old.precision} ({old.target}) is in the baseline and not in the bundle: export it again"
    for missing in result.missing:
        yield f"Next: {missing.hint}"


def sentence(check: "Check") -> str:
    """What was found, the limit, and how many images would decide."""
    parts = [check.text]
    if check.limit is not None:
        interval = f" (95 % {check.ci95[0]:.4g} to {check.ci95[1]:.4g})" if check.ci95 else ""
        parts.append(f"{check.name} {check.value:.4g}{interval}, limit {check.limit:.4g}")
    if check.images_needed is not None:
        parts.append(f"about {check.images_needed:,} images would decide")
    if check.outcome == "suspicious":
        parts.append("if that is meant, accept it with --update-baseline")
    return "; ".join(parts)
