"""Figures and names in the documents are those of the measurements, the code and each other."""

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from typer.main import get_command

from benchmarks.latency import CANDIDATES, table
from cloformer_deploy.backends.registry import BACKENDS, all_precisions
from cloformer_deploy.cli.app import app
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "latency.json").read_text())


README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = cast(Any, get_command(app)).commands
PAGE_OF = {
    "export": "export.md",
    "calibrate": "calibration.md",
    "validate": "validate.md",
    "bench": "bench.md",
    "gate": "gate.md",
    "blame": "blame.md",
    "report": "report.md",
    "render": "command-line.md",
}
FORMATS = {"ONNX": "onnx", "TFLite": "tflite", "Core ML": "coreml"}


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row of a page."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]


def test_the_latency_table_is_the_measurement_s() -> None:
    assert table(MEASURED) in (ROOT / "docs" / "lowering.md").read_text()


def test_the_readme_s_figures_are_those_of_the_pages() -> None:
    int8 = (ROOT / "docs" / "int8.md").read_text()
    photographs = {row[0]: row for row in rows(int8[int8.index("`xxs-imagenette` on drift224") :]) if len(row) == 7}
    floats = {row[0]: row for row in rows((ROOT / "docs" / "validate.md").read_text())}
    latency = {row[0].strip("*"): row[1] for row in rows(int8) if len(row) == 3}
    listed = rows(README[README.index("## Figures") : README.index("## Limits")])[2:]
    assert len(listed) == 6
    for name, agreement, drop, sqnr, megabytes, milliseconds in listed:
        artifact, runtime = name.split(", ")
        title, precision = artifact.rsplit(" ", 1)
        if precision == "int8":
            _, _, share, *found = photographs[f"{FORMATS[title]} int8"]
            assert share.replace("%", " %") == agreement
            assert [drop, sqnr, megabytes] == found[:3]
        else:
            _, share, wanted_drop, _, *found = floats[artifact]
            assert [agreement, drop, sqnr, megabytes] == [share, wanted_drop, *found]
        measured = {"int8": f"{runtime}, int8", "fp32": f"{runtime}, lowered float32"}.get(precision, "none")
        assert milliseconds == latency.get(measured, "`not_executed`")
    assert f"takes {latency['ONNX Runtime, plain float32 export']} ms in ONNX" in README.replace("\n", " ")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []
    folders = "|".join(sorted(path.name for path in (ROOT / "cloformer_deploy").iterdir() if path.is_dir()))
    paths = re.findall(rf"`(?:cloformer_deploy/)?((?:{folders})/[\w/*.]*)`", text)
    assert [path for path in paths if not any((ROOT / "cloformer_deploy").glob(path.rstrip("/")))] == []
    others = re.findall(r"(?<![\w/])((?:benchmarks|tests|tools)/[\w/]+\.\w+)", text)
    assert [path for path in others if not (ROOT / path).exists()] == []


def test_every_candidate_was_measured_in_every_column() -> None:
    columns = {(item["variant"], item["threads"]) for item in MEASURED["results"]}
    assert columns == {(variant, threads) for variant in ("xxs", "s") for threads in (1, 2)}
    assert len(MEASURED["results"]) == len(columns) * len(CANDIDATES)


def test_the_table_of_rewrites_is_that_of_the_targets() -> None:
    wanted = {(name, key): target for name, backend in BACKENDS.items() for key, target in backend.targets.items()}
    lines = (ROOT / "docs" / "lowering.md").read_text().splitlines()
    header = next(line for line in lines if line.startswith("| rewrite |"))
    targets = [tuple(cell.split()) for cell in header.strip("| ").split(" | ")[1:]]
    listed: dict[tuple[str, ...], set[str]] = {target: set() for target in targets}
    for line in lines[lines.index(header) + 2 :]:
        if not line.startswith("| `"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for target, cell in zip(targets, cells, strict=True):
            if cell == "x":
                listed[target].add(name.split("`")[1])
    assert listed == {key: set(target.rewrites) for key, target in wanted.items()}
    assert set().union(*listed.values()) == set(NETWORKS["cloformer"].rewrites)


def test_the_limits_of_validate_are_those_of_classification() -> None:
    text = (ROOT / "docs" / "validate.md").read_text()
    listed: dict[str, Any] = {}
    for names, *cells in rows(text[text.index("## Limits") : text.index("## Runtimes")])[2:]:
        agreement, sqnr_db, drop_pp = (float(cell.split()[0]) for cell in cells)
        limits = {"agreement": pytest.approx(agreement / 100), "sqnr_db": sqnr_db, "drop_pp": drop_pp}
        listed |= dict.fromkeys(re.findall(r"`(\w+)`", names), limits)
    assert listed == {name: TASKS["classification"].thresholds(name) for name in all_precisions()}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_options_that_pages_show_exist(command: str) -> None:
    known = {option for parameter in COMMANDS[command].params for option in parameter.opts} | {"--json", "--help"}
    text = "\n".join(page.read_text() for page in PAGES)
    for line in re.findall(rf"cloformer-deploy {command}\b([^`\n#]*)", text):
        assert set(re.findall(r"--[a-z][a-z-]*", line)) <= known


@pytest.mark.parametrize(("command", "page"), PAGE_OF.items())
def test_every_option_is_on_the_page_of_its_command(command: str, page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    options = {option for parameter in COMMANDS[command].params for option in parameter.opts if option[:2] == "--"}
    assert sorted(option for option in options - {"--json"} if option not in text) == []
