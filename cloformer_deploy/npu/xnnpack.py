"""XNNPACK, LiteRT's delegate for CPUs, in the same form as NPUs: which operators it takes, and which it leaves."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cloformer_deploy.backends.failures import package_missing
from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.backends.tflite.describe import macs_by_operator
from cloformer_deploy.backends.tflite.file import load_model
from cloformer_deploy.backends.tflite.placement import placement
from cloformer_deploy.errors import MissingPartError
from cloformer_deploy.npu.base import Compiled, Placed

_LEFT = "XNNPACK does not take it: TFLite's own kernel runs it"


@dataclass(frozen=True)
class Xnnpack:
    """See `Placer`."""

    name: str = "xnnpack"
    title: str = "XNNPACK"
    export_options: str = "--format tflite"

    @property
    def compiler(self) -> str:
        """See `Placer.compiler`."""
        return f"ai-edge-litert {version('ai-edge-litert')}"

    def takes(self, kind: ArtifactKey) -> bool:
        """See `Placer.takes`."""
        return (kind.format, kind.target) == ("tflite", "cpu")

    def missing(self) -> MissingPartError | None:
        """See `Placer.missing`."""
        return package_missing("ai_edge_litert", extra="tflite")

    def compile(self, path: Path, output: Path | None = None) -> Compiled:
        """See `Placer.compile`; LiteRT prepares the file. Shares of types that are divided are not known."""
        counts, macs = macs_by_operator(load_model(path))
        left = placement(path).undelegated
        total = sum(macs.values()) or 1
        rows = []
        for name, count in counts.items():
            behind = left.get(name, 0)
            share = None if 0 < behind < count else macs[name] / total
            if behind < count:
                rows.append(Placed(name, count - behind, share, self.title))
            if behind:
                rows.append(Placed(name, behind, share, "CPU", _LEFT))
        return Compiled(
            tuple(sorted(rows, key=lambda row: (-(row.share_of_macs or 0), -row.count, row.operator))), None
        )
