"""The page: one HTML file that loads no other resource and runs no script."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy import __version__
from cloformer_deploy.errors import RequestError
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.report.answers import comparison_json
from cloformer_deploy.report.cells import percent, short_name
from cloformer_deploy.report.gate import figures, lines, sentence
from cloformer_deploy.report.html.contents import Report
from cloformer_deploy.report.html.pictures import DRAWINGS, legend
from cloformer_deploy.report.html.plots import agreement_dots, class_drift, drop_dots, latency_bars, scatters
from cloformer_deploy.report.placement import placement_sentences, share
from cloformer_deploy.system.files import replaced
from cloformer_deploy.system.packages import require
from cloformer_deploy.system.text import counted, visible

if TYPE_CHECKING:
    from jinja2 import Environment

    from cloformer_deploy.bench import Result
    from cloformer_deploy.gate import Cell

DEFAULT_NAME = "report.html"
_SIGNIFICANT = 0.05


def check_output(path: Path) -> None:
    """Check, before minutes of work, that a report can be made and written to a path.

    Raises:
        RequestError: it cannot be written there.
        MissingPartError: jinja2 is not installed.
    """
    if path.suffix != ".html":
        raise RequestError(f"--output {path} is no HTML file", "end its name in .html")
    if path.is_dir() or not path.parent.is_dir():
        raise RequestError(f"--output {path} cannot be written there", "name a file in a folder that exists")
    require("jinja2", extra="report")


def write_report(path: Path, report: Report) -> None:
    """Write the page; an error leaves what was there before.

    Raises:
        OSError: the folder cannot be written.
    """
    content = page(report)
    with replaced(path) as staged:
        staged.write_text(content, encoding="utf-8")


def page(report: Report) -> str:
    """Return the page as HTML, in which no text from files changes the direction of what stands around it."""
    result = report.result
    latencies = latency_bars(report.measured)
    known = {item.artifact.path: item for item in report.files}
    drawing = DRAWINGS[result.task] if report.pictures else None
    content = (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            manifest=report.bundle.manifest,
            result=result,
            model=f"{NETWORKS[report.bundle.manifest.network].title}-{report.bundle.manifest.variant}",
            known=known,
            findings=list(lines(result)),
            agreement=agreement_dots(result),
            drop=drop_dots(result) if result.reference.score is not None else None,
            scatters=scatters(result, latencies),
            latencies=latencies,
            p50={(item.path, item.place, item.threads): item for bars in latencies for item in bars.results},
            figures_of=[item for item in report.measured if item.is_latency],
            other=[item for item in report.measured if not item.is_latency],
            classes=class_drift(result),
            drawing=drawing,
            legend=legend(report.bundle.manifest.labels or (), drawing.first_color) if drawing else (),
            significant=_SIGNIFICANT,
            packages=_packages(report),
            operators=_operators(report),
            placed=placement_sentences,
            tool_version=__version__,
        )
    )
    return visible(content)


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "name": short_name,
        "percent": percent,
        "counted": counted,
        "sentence": sentence,
        "figures": figures,
        "ms": milliseconds,
        "megabytes": lambda size: f"{size / 1e6:.1f}",
        "estimate": estimate,
        "share": share,
        "intervals": intervals,
    }
    return environment


def milliseconds(value: float | None) -> str:
    """Return a time with at least three significant digits, without its unit."""
    if value is None:
        return "-"
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def estimate(item: "Result") -> str:
    """Return a cost model's estimate. The times of emulators and simulators are about no device, and are not shown."""
    if item.source != "estimated":
        return "-"
    value = item.mean_ms if item.p50_ms is None else item.p50_ms
    return "-" if value is None else f"about {milliseconds(value)} ms"


def intervals(cell: "Cell") -> dict[str, str]:
    """Return the 95 % intervals of agreement, drop and SQNR, as text."""
    found = {check.name: check.ci95 for check in cell.checks if check.ci95 is not None}
    shown = {"agreement": (100, 1), "drop_pp": (1, 2), "sqnr_db": (1, 1)}
    return {
        name: f"{factor * found[name][0]:.{places}f} to {factor * found[name][1]:.{places}f}" if name in found else ""
        for name, (factor, places) in shown.items()
    }


def _packages(report: Report) -> list[tuple[str, str, str]]:
    """Return rows of package, version and the artifacts that were made with it."""
    made: dict[tuple[str, str], list[str]] = {}
    for item in report.bundle.manifest.artifacts:
        for package, version in item.created_with.items():
            made.setdefault((package, version), []).append(short_name(item))
    total = len(report.bundle.manifest.artifacts)
    return [(*key, "all" if len(names) == total else ", ".join(names)) for key, names in sorted(made.items())]


def _operators(report: Report) -> dict[str, list[tuple[str, int]]]:
    """Return the operators of each artifact by its path, the most frequent first."""
    found: dict[str, list[tuple[str, int]]] = {}
    for item in report.files:
        if item.inspection is not None:
            counts = item.inspection.description.operators
            found[item.artifact.path] = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return found


def report_json(path: Path, report: Report) -> dict[str, Any]:
    """Return the path of the report and its summary."""
    result = report.result
    return {
        "schema_version": 1,
        "output": str(path),
        "passed": not result.failed,
        "images": result.images,
        "task": result.task,
        "metric": result.metric,
        "reference": {"runtime": "pytorch", "n": result.reference.n, "score": result.reference.score},
        "artifacts": [_artifact_json(cell, report.measured) for cell in result.cells],
    }


def _artifact_json(cell: "Cell", measured: Sequence["Result"]) -> dict[str, Any]:
    artifact = cell.artifact
    return {
        "path": artifact.path,
        "format": artifact.format,
        "precision": artifact.precision,
        "target": artifact.target,
        "bytes": artifact.bytes,
        "status": cell.status,
        **comparison_json(cell.comparison),
        "latency": [
            {key: getattr(item, key) for key in ("device", "source", "threads", "p50_ms", "p90_ms")}
            for item in measured
            if item.path == artifact.path and item.is_latency
        ],
    }


def report_lines(path: Path, report: Report) -> list[str]:
    """Return one or two lines about the report that was written."""
    statuses = [cell.status.replace("_", " ") for cell in report.result.cells]
    told = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    latencies = sum(item.is_latency for item in report.measured)
    latency = f"{counted(latencies, 'latency', 'latencies')}" if latencies else "latency not measured"
    found = [f"{path}: {counted(len(statuses), 'artifact')} ({told}), {latency}."]
    return found if latencies else [*found, f"Next: {report.commands.bench[0]}"]
