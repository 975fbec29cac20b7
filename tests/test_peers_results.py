"""The page and the image of the peers are those of the recorded measurement; accuracies are the listed ones."""

import csv
import json
from dataclasses import replace
from pathlib import Path

from benchmarks import limits
from benchmarks.edgevit import edgevit_xxs, multiply_accumulates, parameters
from benchmarks.peers import PAPER, PEERS, table
from benchmarks.peers_plot import digest
from benchmarks.peers_standing import CLOFORMER, LOWERED, NEAREST, PLAIN, Standing, ahead, front, standings

ROOT = Path(__file__).resolve().parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "peers.json").read_text())
FOUND = standings(MEASURED)


def test_the_page_is_the_measurement_s() -> None:
    assert table(MEASURED) in (ROOT / "docs" / "peers.md").read_text()


def test_the_image_is_the_measurement_s() -> None:
    assert digest(FOUND) in (ROOT / "docs" / "peers.svg").read_text()


def test_every_listed_checkpoint_was_timed_at_its_resolution() -> None:
    with PEERS.open(newline="") as file:
        listed = {(row["checkpoint"], int(row["side"]), float(row["top1"])) for row in csv.DictReader(file)}
    timed = {
        (checkpoint["name"], item["side"], checkpoint["top1"])
        for item in MEASURED["results"]
        if item["variant"] not in PAPER
        for checkpoint in item["checkpoints"]
    }
    assert timed == listed
    assert len(listed) > 45


def test_the_nearest_peers_are_deployed_as_cloformer_is() -> None:
    rows = MEASURED["deployed"]
    found = {(row["variant"], row["candidate"]) for row in rows}
    assert found == {(name, candidate) for name in NEAREST for candidate in CLOFORMER if candidate != PLAIN}
    assert list(limits.peers(MEASURED)) == []


def test_every_cloformer_was_timed_in_every_form() -> None:
    timed = {(item.variant, item.candidate) for item in FOUND if item.cloformer}
    assert timed == {(variant, candidate) for variant in PAPER for candidate in CLOFORMER}


def test_edgevit_is_the_paper_s() -> None:
    model = edgevit_xxs(1000).eval()
    assert round(parameters(model) / 1e6, 1) == 4.1
    assert round(multiply_accumulates(model, 224) / 1e9, 1) == 0.6


def test_standing() -> None:
    clo = Standing("xxs", 224, LOWERED, True, None, 1, 10.0, 77.0, None)
    slow = Standing("slow", 224, PLAIN, False, None, 1, 11.0, 80.0, None)
    same = Standing("same", 224, PLAIN, False, None, 1, 10.0, 77.0, None)
    taught = Standing("taught", 224, PLAIN, False, None, 1, 9.0, None, 78.0)
    both = Standing("both", 224, PLAIN, False, None, 1, 8.0, 76.0, 77.5)
    found = [both, taught, clo, same, slow]
    assert ahead(clo, found, teachers=False) == [same]
    assert ahead(clo, found, teachers=True) == [both, taught, same]
    assert ahead(taught, found, teachers=False) == []
    assert front(found, teachers=False) == [both, clo, slow]
    assert front(found, teachers=True) == [both, taught, slow]
    assert replace(clo, candidate="litert int8") not in front(
        [replace(clo, candidate="litert int8"), *found], teachers=False
    )
