"""The page: well-formed, complete, harmless, and without latencies where none was measured."""

import re
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from cloformer_deploy.bench import Result
from cloformer_deploy.report.cells import short_name
from cloformer_deploy.report.html import Report, page
from tests.report.html.report_examples import HOSTILE, LABELS, artifacts, measured, report

pytestmark = pytest.mark.integration

VOID = {"meta", "br"}
TWENTY = 20
BROKEN = (4, 7)


class Page(HTMLParser):
    """Elements with their attributes, and the text between them; a tag that is not closed in turn is refused."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)
        if "tr" in self.open:
            self.rows[-1] += f" {' '.join(data.split())}"

    def of(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]


def no_latencies() -> list[Result]:
    """Times that are none of any device: 7654.3 ms each, but for the estimate."""
    first, second, third, fourth = artifacts(4)
    return [
        measured(first, "emulated-board", "emulated", p50_ms=7654.3, mean_ms=7654.3, max_abs_diff=0.25),
        measured(second, "hexagon-v75", "simulated", p50_ms=7654.3),
        measured(third, "ethos-u85-1024", "estimated", p50_ms=6.81),
        measured(fourth, "ssh://pi@board", "device", status="failed", reason=f"broke {HOSTILE}"),
    ]


@cache
def full() -> Report:
    """Twenty artifacts, some failed, measured here and on a device, and everything that is no latency."""
    made = artifacts(TWENTY)
    here = [measured(item, p50_ms=10 + place, p90_ms=12.5 + place) for place, item in enumerate(made)]
    figures = {"p50_ms": 51.5, "speedup": 2.0, "speedup_ci95": (1.9, 2.1), "speedup_to": "a.onnx", "throttled": True}
    board = [measured(item, "ssh://pi@board", "device", **figures) for item in made[:3]]
    labels = (HOSTILE, *LABELS[1:])
    return report(TWENTY, labels, [*here, *board, *no_latencies()], HOSTILE, broken=BROKEN)


REPORTS = {
    "full": full(),
    "not-measured": report(),
    "one-unlabeled": report(1, labels=None, labeled=False),
    "only-failed": report(1, broken=[0]),
}


@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS)
def test_well_formed(made: Report) -> None:
    content = page(made)
    assert content.startswith("<!doctype html>")
    found = Page(content)
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert levels.count(1) == 1
    names = found.of("id")
    assert len(set(names)) == len(names)
    assert {link.removeprefix("#") for link in (*found.of("href"), *found.of("aria-labeledby"))} <= set(names)
    drawn = [attributes for tag, attributes in found.elements if tag == "svg"]
    assert all("aria-hidden" in item or item.get("aria-label") for item in drawn if item)


@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS)
def test_reads_nothing_else_and_runs_nothing(made: Report) -> None:
    content = page(made)
    found = Page(content)
    assert {tag for tag, _ in found.elements} & {"script", "link", "img", "iframe", "object", "base", "form"} == set()
    assert all(link.startswith("#") for link in found.of("href"))
    assert {name for _, item in found.elements for name in item if name.startswith("on") or name == "src"} == set()
    style = content[content.index("<style>") : content.index("</style>")]
    assert re.findall(r"url\(|@import|//", style) == []
    assert "default-src 'none'; style-src 'unsafe-inline'" in found.of("content")


def test_what_a_bundle_says_comes_out_as_text() -> None:
    content = page(full())
    assert "<script" not in content
    found = Page(content)
    # A class, an operator, a cause, a reason, the weights' name: each as it is, in some place.
    for text in (HOSTILE, f"Odd {HOSTILE}", f"cause {HOSTILE}", f"broke {HOSTILE}"):
        assert text in found.texts
    assert f"CloFormer-xxs {HOSTILE}" in found.text


def test_placements_are_told_row_by_row() -> None:
    text = Page(page(report(1))).text
    assert "on Ethos-U85-1024: 2 operators left on the CPU" in text
    for figure in ("87.5%", "62.5%", "12.5%", f"left {HOSTILE}", f"crashed {HOSTILE}", "a note.", "not known"):
        assert figure in text
    assert "most cycles: relu (Conv2D, 100.0%), gelu (Gelu, 0.0%)." in text
    assert "estimated 6.81 ms on the NPU" in text


def test_twenty_artifacts_are_all_there() -> None:
    found = Page(page(full()))
    made = artifacts(TWENTY)
    names = [short_name(item) for item in made]
    assert len(set(names)) == TWENTY
    for item, name in zip(made, names, strict=True):
        rows = [row for row in found.rows if row.strip().startswith(f"{name} ")]
        assert len(rows) >= 4, name
        assert any(item.path in row for row in rows)
        labels = [label for label in found.of("aria-label") if label.startswith(f"{name}: ")]
        assert len(labels) >= 3, name  # agreement, drop, latency
    assert "20 artifacts, 2 worse than allowed" in found.text


def test_a_failure_is_told_with_its_figure_and_its_cause() -> None:
    found = Page(page(full()))
    for place in BROKEN:
        name = short_name(artifacts(TWENTY)[place])
        assert re.search(rf"{name} (failed the same [^-]+ )?failed SQNR -?[\d.]+ dB; sqnr_db ", found.text)
        assert any(label.startswith(f"{name}: ") and label.endswith(", failed") for label in found.of("aria-label"))
    assert "Failed :" in found.text
    assert "Passed :" in Page(page(report())).text


def test_latency_that_was_not_measured_is_said_to_be() -> None:
    made = report()
    found = Page(page(made))
    assert "Not measured. To measure it" in found.text
    assert "cloformer-deploy bench 'a bundle'" in found.text
    assert sum("not measured" in row for row in found.rows) == 3
    assert "No latency" not in found.text


def test_latencies_by_device() -> None:
    found = Page(page(full()))
    name = short_name(artifacts(1)[0])
    assert "Not measured" not in found.text
    assert f"{name}: p50 10.0 ms, p90 12.5 ms" in found.of("aria-label")
    assert f"{name}: p50 51.5 ms, p90 - ms" in found.of("aria-label")
    assert "2.00x (1.90 to 2.10)" in found.text
    assert found.text.count("throttled") >= 3
    assert "The machine that ran bench, not a mobile device" in found.text
    assert found.text.index("ssh://pi@board , 1 thread") < found.text.index("host , 1 thread")


def test_what_is_no_latency_is_named_and_its_times_are_not_shown() -> None:
    made = report(4, results=no_latencies())
    content = page(made)
    found = Page(content)
    assert "7654" not in content.replace(",", "")
    assert "Not measured. To measure it" in found.text
    (emulated,) = [row for row in found.rows if "emulated-board" in row]
    assert "emulated ran - 2.5e-01" in " ".join(emulated.split())
    (simulated,) = [row for row in found.rows if "hexagon-v75" in row]
    assert "simulated ran" in " ".join(simulated.split())
    (estimated,) = [row for row in found.rows if "ethos-u85" in row]
    assert "estimated ran about 6.81 ms" in " ".join(estimated.split())
    assert not any("6.81" in label for label in found.of("aria-label"))
    (failed,) = [row for row in found.rows if "broke" in row]
    assert "device failed" in " ".join(failed.split())


def test_without_labels_nothing_is_said_of_top_1() -> None:
    found = Page(page(REPORTS["one-unlabeled"]))
    assert "The images have no labels" in found.text
    assert "Drop of top-1" not in found.text
    assert "Without labels there is no drift by class" in found.text
