"""Apple's Neural Engine: a prediction of what runs on it, by rules with their sources. Only a Mac's compute plan tells.

To add a rule: an entry in `RULES`, `LINTS`, or a test in `_reason`, with its source.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloformer_deploy.backends.coreai.lints import ARGMAX, BLOCKS
from cloformer_deploy.backends.coreml.describe import Computed, computed
from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.errors import MissingPartError
from cloformer_deploy.npu.base import Compiled, Placed

Confidence = Literal["high", "medium", "low"]


@dataclass(frozen=True)
class Rule:
    """A kind of operator that the Neural Engine does not run.

    Attributes:
        operators: types of MIL.
        reason: why they stay on the CPU or GPU.
        source: who says so.
        confidence: how far to trust it.
    """

    operators: frozenset[str]
    reason: str
    source: str
    confidence: Confidence

    @property
    def text(self) -> str:
        """The reason with its source and confidence."""
        return f"{self.reason} ({self.source}; confidence {self.confidence})"


_LAYERS = "hollance/neural-engine, unsupported layers"
FLOAT32 = Rule(frozenset(), "it computes in float16 alone", "coremltools guide, typed execution", "high")
"""Applies to operators that compute in float32."""
AXES = Rule(frozenset(), "more than 4 axes", "Apple, Deploying Transformers on the Apple Neural Engine", "low")
RULES = (
    Rule(frozenset({"lstm", "gru", "rnn"}), "recurrent", _LAYERS, "medium"),
    Rule(
        frozenset({"gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd"}),
        "reads or writes by index",
        _LAYERS,
        "medium",
    ),
    Rule(frozenset({"reduce_prod"}), "products of an axis", _LAYERS, "low"),
    Rule(frozenset({"custom_layer"}), "custom", _LAYERS, "high"),
)
LINTS = {"reduce_argmax": ARGMAX, "constexpr_blockwise_shift_scale": BLOCKS}
"""Operators that accelerators have computed wrong: look at the results on a device."""


@dataclass(frozen=True)
class NeuralEngine:
    """See `Placer`."""

    name: str = "ane"
    title: str = "Apple's Neural Engine"
    compiler: str = "rules, not by a compiler: only a Mac's compute plan tells"
    export_options: str = "--format coreml --precision fp16"

    def takes(self, kind: ArtifactKey) -> bool:
        """See `Placer.takes`."""
        return (kind.format, kind.target) == ("coreml", "ane")

    def missing(self) -> MissingPartError | None:
        """See `Placer.missing`: rules need nothing."""
        return None

    def compile(self, path: Path) -> Compiled:
        """See `Placer.compile`; it is predicted."""
        operators = list(computed(path))
        counts, macs = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for item in operators:
            kind = (item.type, _reason(item))
            counts[kind] += 1
            macs[kind] += item.macs
        total = macs.total() or 1
        placement = tuple(
            Placed(kind[0], counts[kind], macs[kind] / total, "CPU" if kind[1] else "NPU", kind[1])
            for kind in sorted(counts, key=lambda item: (-macs[item], -counts[item], item))
        )
        return Compiled(placement, None, notes=tuple(_notes({item.type for item in operators})))


def _reason(item: Computed) -> str:
    """Return why an operator is predicted to stay off the Neural Engine; empty if it is not."""
    for rule in RULES:
        if item.type in rule.operators:
            return rule.text
    if item.dtype == "float32":
        return FLOAT32.text
    return AXES.text if item.rank > 4 else ""


def _notes(types: set[str]) -> Iterator[str]:
    yield from (f"{name}: {text}" for name, text in LINTS.items() if name in types)
