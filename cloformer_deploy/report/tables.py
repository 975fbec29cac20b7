"""The answers of the commands on a terminal: tables of at most 80 columns, and the lines around them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from cloformer_deploy.backends.description import TensorInfo
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.report.accuracy import accuracy_lines
from cloformer_deploy.report.cells import STATUS, Rendered, add_row, new_table, percent, short_name
from cloformer_deploy.report.integers import integer_line, integer_tables
from cloformer_deploy.report.placement import npu_line
from cloformer_deploy.system.text import counted

if TYPE_CHECKING:
    from cloformer_deploy.backends.inspection import Inspection
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.data import MadeCalibration
    from cloformer_deploy.doctor import Part, Survey
    from cloformer_deploy.exporting.pipeline import Export
    from cloformer_deploy.validation import ArtifactVerdict, Validation

_READY = Text("ready", style="green")


def export_tables(made: "Export") -> Rendered:
    """Yield the artifacts that were written now, and where they are."""
    table = new_table("artifact", "MB", "run by", "max |diff|", "SQNR dB", numeric=(1, 3, 4))
    count = 0
    for item in made.bundle.manifest.artifacts:
        check = made.checks.get(item.path)
        if check is not None:
            count += 1
            add_row(
                table, item.path, _mb(item.bytes), check.runtime, f"{check.max_abs_diff:.1e}", f"{check.sqnr_db:.1f}"
            )
    yield table
    probes = next(iter(made.checks.values())).n
    where = str(made.bundle.root)
    yield f"{counted(count, 'artifact')} in {where}; compared with PyTorch on {probes} probe images."
    for path, check in made.checks.items():
        yield from npu_line(path, check.npus)
    yield from accuracy_lines(made)


def calibration_tables(made: "MadeCalibration") -> Rendered:
    """Yield the new calibration set in a few lines."""
    manifest = made.calibration.manifest
    yield f"{counted(manifest.n, 'image')} ({manifest.source}) in {made.output!s}"
    if manifest.classes is not None:
        low, high = min(manifest.classes.values()), max(manifest.classes.values())
        each = counted(high, "image") if low == high else f"{low} to {high} images"
        yield f"{counted(len(manifest.classes), 'class', 'classes')}, {each} each"
    yield f"sha256 {manifest.sha256}"


def validation_tables(result: "Validation") -> Rendered:
    """Yield one row per artifact, then what failed or was not executed, and why."""
    reference = result.reference
    labeled = reference.score is not None
    yield (
        f"PyTorch on {reference.n} images ({result.images}): {result.metric_title} {reference.score:.2%}."
        if reference.score is not None
        else f"PyTorch on {reference.n} images ({result.images}) without labels."
    )
    columns = ["artifact", "", "agree", *([result.metric_title, "drop pp (95 %)"] if labeled else [])]
    columns += ["max |diff|", "SQNR dB"]
    table = new_table(*columns, numeric=tuple(range(2, len(columns))))
    for item in result.artifacts:
        add_row(table, *_verdict_row(item, labeled))
    yield table
    for item in result.artifacts:
        yield from (f"{item.path}: {failure}" for failure in item.failures)
        yield from (f"{item.path}: undecided on so few images: {text}" for text in item.undecided)
    for missing in result.missing:
        yield f"Next: {missing.hint}"
    runtimes = sorted(
        {f"{item.format} by {item.runtime}" for item in result.artifacts if item.status != "not_executed"}
    )
    if runtimes:
        yield f"Executed: {', '.join(runtimes)}."


def _verdict_row(item: "ArtifactVerdict", labeled: bool) -> list[str | Text]:
    found = item.found
    cells = [percent(None if found is None else found.agreement)]
    if labeled:
        drop = "-"
        if found is not None and found.drop_pp is not None and found.drop_ci95_pp is not None:
            drop = f"{found.drop_pp:.2f} ({found.drop_ci95_pp[0]:.2f}, {found.drop_ci95_pp[1]:.2f})"
        cells += [percent(None if found is None else found.score), drop]
    difference = "-" if found is None or found.max_abs_diff is None else f"{found.max_abs_diff:.1e}"
    sqnr = "-" if found is None or found.sqnr_db is None else f"{found.sqnr_db:.1f}"
    return [short_name(item), STATUS[item.status], *cells, difference, sqnr]


def inspection_tables(path: Path, inspection: "Inspection") -> Rendered:
    """Yield what is known of one file: interface, cost, what its runtime shows, operators, metadata."""
    description = inspection.description
    yield f"{path!s}: {description.format} {description.precision or ''}, {_mb(description.bytes)} MB"
    interface = new_table("", "name", "shape", "type")
    for direction, tensors in (("input", description.inputs), ("output", description.outputs)):
        for tensor in tensors:
            add_row(interface, direction, tensor.name, _shape(tensor), tensor.dtype)
    yield interface
    graph = new_table("graph", "", numeric=(1,))
    for what, value in _figures(inspection):
        add_row(graph, what, value)
    yield graph
    yield from _findings(inspection)
    yield from integer_tables(description.quantized)
    operators = new_table("operator", "count", numeric=(1,))
    for name, count in description.operators.items():
        add_row(operators, name, str(count))
    yield operators
    if description.metadata:
        metadata = new_table("metadata", "")
        for key, value in description.metadata.items():
            if key != "clipped":  # it is in the table of activations
                add_row(metadata, key, _abridged(value))
        yield metadata


def _figures(inspection: "Inspection") -> Iterator[tuple[str, str]]:
    description, graph = inspection.description, inspection.description.graph
    yield "operators", str(sum(description.operators.values()))
    yield "transposes", str(graph.transposes)
    yield "highest rank", str(graph.max_rank)
    yield "parameters", f"{graph.parameters:,}"
    yield "multiply-accumulates", "-" if graph.macs is None else f"{graph.macs:,}"
    for section in inspection.sections:
        yield from section.figures


def _findings(inspection: "Inspection") -> Iterator[str]:
    """Yield what the runtime shows about a file, in words."""
    if inspection.problem is not None:
        yield f"Not inspected further: {inspection.problem}"
    for section in inspection.sections:
        yield from (_abridged(finding) for finding in section.findings)
        yield from section.passed


def bundle_tables(bundle: "Bundle", inspected: "Sequence[Inspection]") -> Rendered:
    """Yield a bundle: its model, one row per artifact, and what is wrong with one."""
    manifest = bundle.manifest
    size = f"{manifest.preprocessing.height} x {manifest.preprocessing.width}"
    classes = f", {counted(manifest.num_classes, 'class', 'classes')}" if manifest.num_classes else ""
    yield (
        f"{bundle.root!s}: {NETWORKS[manifest.network].title}-{manifest.variant}, {manifest.task}{classes}, "
        f"input {size}, weights {manifest.weights.name} ({manifest.weights.sha256[:12]})"
    )
    table = new_table("artifact", "MB", "input", "operators", "transposes", "sha256", numeric=(1, 3, 4))
    for item, inspection in zip(manifest.artifacts, inspected, strict=True):
        interface = f"{item.input.kind}, batch {item.input.batch}"
        description = inspection.description
        count = str(sum(description.operators.values()))
        transposes = str(description.graph.transposes)
        add_row(table, short_name(item), _mb(item.bytes), interface, count, transposes, item.sha256[:12])
    yield table
    for item, inspection in zip(manifest.artifacts, inspected, strict=True):
        if inspection.description.quantized:
            yield f"{short_name(item)}: {integer_line(inspection.description.quantized)}."
        yield from npu_line(short_name(item), item.npus)
        for finding in _findings(inspection):
            yield f"{short_name(item)}: {finding}"


def survey_tables(found: "Survey") -> Rendered:
    """Yield what is there, what is missing, and what installs it."""
    yield f"cloformer-deploy {found.tool_version}, Python {found.python}, {found.system}"
    for title, parts in (("extra", found.extras), ("runtime", found.runtimes), ("device", found.devices)):
        table = new_table(title, "", "")
        for part in parts:
            add_row(table, part.name, _READY if part.ready else "missing", _detail(part))
        yield table
    yield f"Bundled weights: {', '.join(found.weights) or 'none'}"


def _detail(part: "Part") -> str:
    return f"{part.detail}\n{part.remedy}" if part.remedy else part.detail


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _shape(tensor: TensorInfo) -> str:
    return " x ".join(str(side) for side in tensor.shape) or "-"


def _abridged(value: object) -> str:
    text = _text(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _text(value: object, levels: int = 2) -> str:
    """Return a value of JSON in prose, so many levels deep: `a, b` for lists, `key value, key value` for objects."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict) and levels:
        parts = (
            " ".join(map(str, item)) if isinstance(item, list) else _text(item, levels - 1) for item in value.values()
        )
        return ", ".join(f"{key} {part}" for key, part in zip(value, parts, strict=True))
    return str(value)
