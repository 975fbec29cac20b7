"""Apple's Neural Engine: a prediction of what runs on it, by rules with their sources, and on a Mac its compute plan.

To add a rule: an entry in `RULES`, `LINTS`, or a test in `_reason`, with its source.
"""

import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloformer_deploy.backends.coreai.lints import ARGMAX, BLOCKS
from cloformer_deploy.backends.coreml.describe import Computed, computed
from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.errors import MissingPartError
from cloformer_deploy.npu import compute_plan
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
    export_options: str = "--format coreml --precision fp16"

    @property
    def compiler(self) -> str:
        """See `Placer.compiler`."""
        if compute_plan.is_there():
            return f"the compute plan of macOS {platform.mac_ver()[0]}"
        return "rules, not by a compiler: only a Mac's compute plan tells"

    def takes(self, kind: ArtifactKey) -> bool:
        """See `Placer.takes`."""
        return (kind.format, kind.target) == ("coreml", "ane")

    def missing(self) -> MissingPartError | None:
        """See `Placer.missing`: rules need nothing."""
        return None

    def compile(self, path: Path, output: Path | None = None) -> Compiled:
        """See `Placer.compile`; it is predicted, and on a Mac planned by Core ML as well."""
        operators = list(computed(path))
        reasons = [_reason(item) for item in operators]
        predicted = placed(operators, [("CPU" if reason else "NPU", reason) for reason in reasons])
        notes = tuple(_notes({item.type for item in operators}))
        if not compute_plan.is_there():
            return Compiled(predicted, None, notes=notes)
        units = compute_plan.units(path)
        planned = [(units.get(item.output, "CPU"), "planned by Core ML") for item in operators]
        return Compiled(placed(operators, planned), None, notes=notes, predicted=predicted)


def placed(operators: Sequence[Computed], places: Sequence[tuple[str, str]]) -> tuple[Placed, ...]:
    """Return a row for each type of operator, unit and reason, those with the most multiply-accumulates first.

    Args:
        operators: of the program.
        places: unit of each, and the reason.
    """
    counts, macs = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for item, place in zip(operators, places, strict=True):
        counts[item.type, *place] += 1
        macs[item.type, *place] += item.macs
    total = macs.total() or 1
    return tuple(
        Placed(kind[0], counts[kind], macs[kind] / total, kind[1], kind[2])
        for kind in sorted(counts, key=lambda item: (-macs[item], -counts[item], item))
    )


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
