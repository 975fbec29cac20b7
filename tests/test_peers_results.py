"""The page and the image of the peers are those of the recorded measurement; accuracies are the listed ones."""

import csv
import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.latency import speedups
from benchmarks.peers import PAPER, PEERS, table
from benchmarks.peers_plot import digest
from benchmarks.peers_standing import CLOFORMER, LOWERED, PLAIN, Standing, ahead, front, standings

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


def test_every_cloformer_was_timed_in_every_form() -> None:
    timed = {(item.variant, item.candidate) for item in FOUND if item.cloformer}
    assert timed == {(variant, candidate) for variant in PAPER for candidate in CLOFORMER}


@pytest.mark.parametrize("variant", PAPER)
def test_lowering_pays_beside_the_peers_too(variant: str) -> None:
    assert statistics.median(speedups(MEASURED, variant, 1, LOWERED, PLAIN)) >= 1.02


def test_what_the_page_says_in_words() -> None:
    lowered = {item.variant: item for item in FOUND if item.cloformer and item.candidate == LOWERED}
    rivals = {
        name: {(peer.variant, peer.side) for peer in ahead(lowered[name], FOUND, teachers=False)} for name in PAPER
    }
    assert rivals["xxs"] >= {("efficientnet_b0", 224), ("efficientvit_b1", 224), ("mobilenetv4_conv_medium", 224)}
    assert rivals["xs"] >= {("efficientnet_b1", 240), ("efficientvit_b1", 288), ("mobilenetv4_hybrid_medium", 256)}
    assert rivals["s"] == {("mobilenetv4_hybrid_medium", 320)}
    assert not any(ahead(item, FOUND, teachers=False) for item in FOUND if item.quantized)
    slower = {item.variant for item in FOUND if item.ms > lowered["xs"].ms and (item.top1 or 100) < PAPER["xs"]}
    assert slower >= {"mobilevit_s", "mobilevitv2_100", "mobileone_s3", "edgenext_small_rw", "tiny_vit_5m_224"}
    (efficientnet,) = [item for item in FOUND if item.variant == "efficientnet_b0"]
    assert efficientnet in ahead(lowered["xxs"], FOUND, teachers=False)
    assert (efficientnet.macs or 0) / efficientnet.ms < (lowered["xxs"].macs or 0) / lowered["xxs"].ms


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
