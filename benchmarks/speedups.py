"""Ratios of latencies that were measured side by side."""

from collections.abc import Mapping
from typing import Any


def speedups(measured: Mapping[str, Any], variant: str, threads: int, candidate: str, baseline: str) -> list[float]:
    """Return how many times as fast as `baseline` a candidate was, in each repeat.

    Both were measured in each repeat: what slows the machine slows both.
    """
    ms = {
        item["candidate"]: item["repeats_ms"]
        for item in measured["results"]
        if (item["variant"], item["threads"]) == (variant, threads)
    }
    return [slow / fast for slow, fast in zip(ms[baseline], ms[candidate], strict=True)]
