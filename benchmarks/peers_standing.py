"""List, from the results of peers.py, the models that are at least as fast and as accurate as each CloFormer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PLAIN, LOWERED, INT8 = "onnxruntime plain", "onnxruntime", "litert int8"
CLOFORMER = {PLAIN: "plain", LOWERED: "lowered", "litert": "lowered, LiteRT", INT8: "int8, LiteRT"}
"""Candidates of each CloFormer; peers have the plain export alone."""
NEAREST = (
    "shufflenet_v2_x2_0",
    "mobilevit_xs",
    "edgevit_xxs",
    "efficientnet_b0",
    "efficientvit_b1",
    "mobilenetv4_conv_medium",
    "mobilenetv4_hybrid_medium",
)
"""The paper's own peers, and those ahead of CloFormer-xxs and xs in float32."""


@dataclass(frozen=True)
class Standing:
    """A measured file, and the published accuracies of its graph.

    Attributes:
        variant: of CloFormer, or timm's name.
        side: of the input, pixels.
        candidate: runtime and kind of graph.
        cloformer: whether it is one.
        macs: multiply-accumulates.
        parameters: numbers in the file.
        ms: latency.
        top1: of weights trained without a teacher, %; None where there are none.
        distilled: of weights trained with one.
    """

    variant: str
    side: int
    candidate: str
    cloformer: bool
    macs: int | None
    parameters: int
    ms: float
    top1: float | None
    distilled: float | None

    @property
    def title(self) -> str:
        """As tables show it."""
        return f"CloFormer-{self.variant}, {CLOFORMER[self.candidate]}" if self.cloformer else self.variant

    @property
    def quantized(self) -> bool:
        """Tell whether it computes in integers: no accuracy of those was published, so they are not compared."""
        return "int8" in self.candidate

    def accuracy(self, *, teachers: bool) -> float | None:
        """The best published top-1, %, with or without weights that had a teacher."""
        known = [value for value in (self.top1, self.distilled if teachers else None) if value is not None]
        return max(known, default=None)


def standings(measured: Mapping[str, Any]) -> list[Standing]:
    """All results, the fastest first."""
    return sorted(map(_read, measured["results"]), key=lambda item: item.ms)


def _read(result: Mapping[str, Any]) -> Standing:
    trained = {item["distilled"]: item["top1"] for item in result["checkpoints"]}
    return Standing(
        variant=result["variant"],
        side=result["side"],
        candidate=result["candidate"],
        cloformer=any(item["name"].startswith("cloformer") for item in result["checkpoints"]),
        macs=result["macs"],
        parameters=result["parameters"],
        ms=result["ms"],
        top1=trained.get(False),
        distilled=trained.get(True),
    )


def ahead(item: Standing, others: list[Standing], *, teachers: bool) -> list[Standing]:
    """The peers among others that are at least as fast and as accurate, in their order.

    None if the item has no accuracy of that kind.
    """
    own = item.accuracy(teachers=teachers)
    if own is None:
        return []
    rivals = [other for other in others if not other.cloformer and other != item and other.ms <= item.ms]
    return [other for other in rivals if (other.accuracy(teachers=teachers) or 0) >= own]


def front(found: list[Standing], *, teachers: bool) -> list[Standing]:
    """The float32 files than which none is both as fast and more accurate, the fastest first."""
    best, members = 0.0, []
    for item in found:
        accuracy = item.accuracy(teachers=teachers)
        if accuracy is not None and accuracy > best and not item.quantized:
            best = accuracy
            members.append(item)
    return members
