"""The gate's answer for continuous integration: JUnit XML, a Markdown summary, GitHub annotations."""

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cloformer_deploy.errors import RequestError
from cloformer_deploy.report.cells import short_name
from cloformer_deploy.report.gate import figures, lines, sentence
from cloformer_deploy.system.text import VISIBLE, visible

if TYPE_CHECKING:
    from cloformer_deploy.gate import Cell, Gate


def junit(result: "Gate") -> str:
    """Return one test case per check and artifact, in the form that Jenkins, GitLab and GitHub's reporters read."""
    suites = ET.Element("testsuites", name="cloformer-deploy gate")
    for cell in result.cells:
        failing = [check for check in cell.checks if check.outcome == "failed"]
        skipped = [check for check in cell.checks if check.outcome == "undecided"]
        suite = ET.SubElement(
            suites,
            "testsuite",
            name=short_name(cell.artifact),
            tests=str(len(cell.checks)),
            failures=str(len(failing)),
            skipped=str(len(skipped)),
        )
        for check in cell.checks:
            case = ET.SubElement(suite, "testcase", classname=_xml_text(cell.artifact.path), name=check.name)
            if check.outcome == "failed" or (check.outcome == "undecided" and cell.status == "failed" and not failing):
                text = "\n".join([sentence(check), *cell.causes])
                ET.SubElement(case, "failure", message=_xml_text(sentence(check))).text = _xml_text(text)
            elif check.outcome == "undecided":
                ET.SubElement(case, "skipped", message=_xml_text(sentence(check)))
            else:
                ET.SubElement(case, "system-out").text = _xml_text(sentence(check))
    for old in result.absent:
        name = f"{old.format} {old.precision} {old.target}"
        suite = ET.SubElement(suites, "testsuite", name=name, tests="1", failures="1", skipped="0")
        case = ET.SubElement(suite, "testcase", classname=name, name="present")
        ET.SubElement(case, "failure", message="it is in the baseline and not in the bundle")
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def markdown(result: "Gate") -> str:
    """Return a Markdown summary for a job's page or a comment."""
    score = result.reference.score
    told = f", {result.metric_title} {score:.2%}" if score is not None else ""
    rows = [
        f"### Drift gate: {'failed' if result.failed else 'passed'}",
        "",
        f"PyTorch on {result.reference.n:,} images{told}.",
        "",
        "| artifact | | agreement | drop, pp (95 %) | SQNR, dB | bytes |",
        "|---|---|---|---|---|---|",
        *map(_row, result.cells),
    ]
    found = [f"- {_escaped(line)}" for line in lines(result)]
    return "\n".join([*rows, "", *found]).rstrip() + "\n"


def _row(cell: "Cell") -> str:
    mark = {"passed": "passed", "failed": "**failed**", "not_executed": "not run"}[cell.status]
    cells = (short_name(cell.artifact), mark, *figures(cell), f"{cell.artifact.bytes:,}")
    return f"| {' | '.join(cells)} |"


def annotations(result: "Gate") -> Iterator[str]:
    """Yield GitHub's workflow commands: an error for a failure, a warning for what is undecided or suspicious."""
    for cell in result.cells:
        for check in cell.checks:
            if check.outcome != "passed":
                failing = check.outcome == "failed" or (check.outcome == "undecided" and cell.status == "failed")
                causes = f" ({'; '.join(cell.causes)})" if failing and cell.causes else ""
                title = f"{short_name(cell.artifact)}: {check.name}"
                yield _command("error" if failing else "warning", title, sentence(check) + causes)
    for old in result.absent:
        title = f"{old.format} {old.precision} ({old.target})"
        yield _command("error", title, "it is in the baseline and not in the bundle: export it again")


def _command(kind: str, title: str, text: str) -> str:
    """Return one line; characters that would end it or its properties are escaped as GitHub's toolkit does."""
    text, title = visible(text, keep="\n\r"), visible(title, keep="\n\r")
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    title = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A").replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={title}::{escaped}"


def _escaped(text: str) -> str:
    """Return text from files, escaped for Markdown."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|" else char for char in visible(text).replace("\n", " "))


def _xml_text(text: str) -> str:
    """Return text without characters that XML 1.0 cannot hold."""
    return "".join(char for char in visible(text) if char not in "\ufffe\uffff")


def write_report(path: Path, content: str) -> None:
    """Write a report; append to a job's summary file (`GITHUB_STEP_SUMMARY`), because other steps write there too.

    Raises:
        RequestError: it cannot be written.
    """
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    mode = "a" if summary and Path(summary) == path else "w"
    try:
        with path.open(mode, encoding="utf-8", errors=VISIBLE) as file:
            file.write(content)
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}", "choose another place") from error
