"""The gate's answer as tables and JSON; `ci` has Markdown, JUnit XML and annotations."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cloformer_deploy.report.answers import comparison_json
from cloformer_deploy.report.cells import STATUS, Rendered, add_row, new_table, percent, short_name

if TYPE_CHECKING:
    from cloformer_deploy.gate import Cell, Check, Gate

CLASSES_SHOWN = 5
_SIGNIFICANT = 0.05


def gate_json(result: "Gate") -> dict[str, Any]:
    """Return the whole answer; see docs/gate.md."""
    return {
        "schema_version": 1,
        "passed": not result.failed,
        "images": result.images,
        "config": result.config,
        "task": result.task,
        "metric": result.metric,
        "reference": {"runtime": "pytorch", "n": result.reference.n, "score": result.reference.score},
        "artifacts": [_cell_json(cell, result.labels) for cell in result.cells],
        "absent": [
            {"format": item.format, "precision": item.precision, "target": item.target} for item in result.absent
        ],
    }


def _cell_json(cell: "Cell", labels: tuple[str, ...] | None) -> dict[str, Any]:
    artifact, found = cell.artifact, cell.comparison
    classes = found.classes if found is not None else ()
    return {
        **dict(zip(("format", "precision", "target"), artifact.key, strict=True)),
        "path": artifact.path,
        "runtime": cell.runtime,
        "status": cell.status,
        **comparison_json(found),
        "smallest_drop_pp": found.smallest_drop_pp if found is not None else None,
        "operators": cell.operators,
        "checks": [vars(check) for check in cell.checks],
        "causes": list(cell.causes),
        "classes": [{**vars(item), "label": labels[item.index] if labels else None} for item in classes],
    }


def gate_tables(result: "Gate") -> Rendered:
    """Yield one row per artifact, then what failed, is undecided or suspicious, and what to do."""
    score = result.reference.score
    told = f"{result.metric_title} {score:.2%}" if score is not None else "without labels"
    limits = f"limits of {result.config}" if result.config else "built-in limits"
    yield f"PyTorch on {result.reference.n} images ({result.images}): {told}; {limits}."
    table = new_table("artifact", "", "agree", "drop pp (95 %)", "SQNR dB", "checks", numeric=(2, 3, 4))
    for cell in result.cells:
        add_row(table, *_row(cell))
    yield table
    yield from lines(result)


def figures(cell: "Cell") -> tuple[str, str, str]:
    """Return agreement, drop with its interval, and SQNR, for a table."""
    found = cell.comparison
    agreement = drop = sqnr = "-"
    if found is not None:
        agreement = percent(found.agreement)
        if found.drop_pp is not None and found.drop_ci95_pp is not None:
            drop = f"{found.drop_pp:.2f} ({found.drop_ci95_pp[0]:.2f}, {found.drop_ci95_pp[1]:.2f})"
        if found.sqnr_db is not None:
            sqnr = f"{found.sqnr_db:.1f}"
    return agreement, drop, sqnr


def _row(cell: "Cell") -> list[Any]:
    outcomes = [check.outcome for check in cell.checks]
    counted = [f"{outcomes.count(name)} {name}" for name in ("failed", "undecided", "suspicious") if name in outcomes]
    return [short_name(cell.artifact), STATUS[cell.status], *figures(cell), ", ".join(counted) or "all passed"]


def lines(result: "Gate") -> Iterator[str]:
    """Yield what there is to say beside the figures, a sentence each."""
    for cell in result.cells:
        name = short_name(cell.artifact)
        for check in cell.checks:
            if check.outcome != "passed":
                yield f"{name}: {check.outcome}: {sentence(check)}"
        for cause in cell.causes:
            yield f"{name}: cause: {cause}"
        yield from _class_lines(cell, name, result.labels)
        yield from _power_lines(cell, name)
    for old in result.absent:
        yield f"{old.format} {old.precision} ({old.target}) is in the baseline and not in the bundle: export it again"
    for missing in result.missing:
        yield f"Next: {missing.hint}"


def _class_lines(cell: "Cell", name: str, labels: tuple[str, ...] | None) -> Iterator[str]:
    classes = cell.comparison.classes if cell.comparison is not None else ()
    for item in [item for item in classes if item.p_value < _SIGNIFICANT][:CLASSES_SHOWN]:
        label = labels[item.index] if labels else f"class {item.index}"
        yield f"{name}: {label}: {item.detail} (p {item.p_value:.1e})"


def _power_lines(cell: "Cell", name: str) -> Iterator[str]:
    """Yield the smallest drop that a passed artifact's images can tell from none."""
    found = cell.comparison
    if found is None or not found.smallest_drop_pp or cell.status != "passed":  # 0: all images answer alike
        return
    limit = next(check.limit for check in cell.checks if check.name == "drop_pp") or 1.0
    needed = found.images_needed(limit)
    yield (
        f"{name}: {found.n:,} images cannot tell a drop below {found.smallest_drop_pp:.2f} pp from none; "
        f"a drop of {limit:.2f} pp needs {needed:,} images"
    )


def sentence(check: "Check") -> str:
    """Return what was found, the limit, and how many images would decide."""
    parts = [check.text]
    if check.limit is not None:
        interval = f" (95 % {check.ci95[0]:.4g} to {check.ci95[1]:.4g})" if check.ci95 else ""
        parts.append(f"{check.name} {check.value:.4g}{interval}, limit {check.limit:.4g}")
    if check.images_needed is not None:
        parts.append(f"about {check.images_needed:,} images would decide")
    if check.outcome == "suspicious":
        parts.append("if that is meant, accept it with --update-baseline")
    return "; ".join(parts)
