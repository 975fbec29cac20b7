"""Arm's Ethos-U: TFLite files compiled by Vela, which says what runs on the NPU and estimates how long that takes.

Source: https://pypi.org/project/ethos-u-vela (its options, and the configurations of `Arm/vela.ini`)
"""

import csv
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from cloformer_deploy.backends.failures import package_missing
from cloformer_deploy.backends.target import FLOATS, ArtifactKey
from cloformer_deploy.backends.tflite.file import load_model
from cloformer_deploy.errors import MissingPartError, ToolError
from cloformer_deploy.npu.base import Compiled, Estimate, Layer, Placed
from cloformer_deploy.system.packages import require
from cloformer_deploy.system.subprocesses import own_process

_MODULES = ("ethosu", "ai_edge_litert")
_EXTRA = "ethos-u"
_STEM = "artifact"
_KIB = 1024
_MEMORIES = {
    "SRAM": "sram_memory_used",
    "DRAM": "dram_memory_used",
    "flash": "off_chip_flash_memory_used",
}
"""Columns of Vela's summary, in KiB."""
_UNSUPPORTED = re.compile(r"operator: (?P<operator>\w+), ofm: '(?P<name>.*)'\nReason: (?P<reason>(?:.+\n?)+)")
"""A paragraph of Vela's output for each operator that it leaves on the CPU."""


@dataclass(frozen=True)
class EthosU:
    """See `Npu`.

    Attributes:
        generation: 55, 65 or 85.
        macs: multiply-accumulates in a cycle.
        system: configuration of the system around it, of Vela's own `Arm/vela.ini`: clock, memories, their speeds.
        memory_mode: what each memory holds, of the same file.
    """

    generation: int
    macs: int
    system: str
    memory_mode: str
    export_options: str = "--format tflite --target ethos-u --precision int8 --integer-io"

    @property
    def name(self) -> str:
        """See `Npu.name`."""
        return f"ethos-u{self.generation}-{self.macs}"

    @property
    def title(self) -> str:
        """See `Npu.title`."""
        return f"Ethos-U{self.generation}-{self.macs}"

    @property
    def compiler(self) -> str:
        """See `Npu.compiler`."""
        return f"ethos-u-vela {version('ethos-u-vela')}"

    @property
    def simulator(self) -> None:
        """See `Npu.simulator`: there is none; LiteRT runs the file as it is before Vela compiles it."""

    def takes(self, kind: ArtifactKey) -> bool:
        """See `Npu.takes`; of float operators it has none."""
        return (kind.format, kind.target) == ("tflite", "ethos-u") and kind.precision not in FLOATS

    def missing(self) -> MissingPartError | None:
        """See `Npu.missing`."""
        return package_missing(*_MODULES, extra=_EXTRA)

    def compile(self, path: Path, output: Path | None = None) -> Compiled:
        """See `Npu.compile`."""
        require(*_MODULES, extra=_EXTRA)
        model = load_model(path)  # refuses damaged files, which could crash Vela
        tensors = frozenset(tensor.name.decode() for tensor in model.subgraphs[0].tensors)
        with tempfile.TemporaryDirectory() as folder:
            said = self._vela(path, Path(folder))
            (layers,) = (_rows(item) for item in Path(folder).glob("*_per-layer.csv"))
            (summary,) = (_rows(item)[0] for item in Path(folder).glob("*_summary_*.csv"))
            made = Path(folder, f"{_STEM}_vela.tflite")
            size = made.stat().st_size
            if output is not None:
                shutil.copyfile(made, output)
        estimate = Estimate(
            ms=float(summary["inference_time"]) * 1000,
            memory_bytes={name: round(float(summary[column]) * _KIB) for name, column in _MEMORIES.items()},
            assumes=f"{self.system}, {self.memory_mode}, {float(summary['core_clock']) / 1e6:.0f} MHz",
        )
        found = (_layer(row) for row in layers)
        named = tuple(replace(layer, name=_tensor(layer.name, tensors)) for layer in found)
        return Compiled(_placement(layers, _reasons(said)), size, estimate, named)

    def _vela(self, path: Path, folder: Path) -> str:
        """Run Vela, which writes into the folder, and return what it says."""
        source = folder / f"{_STEM}.tflite"  # Vela names what it writes after what it reads
        source.write_bytes(path.read_bytes())
        options = (
            "--accelerator-config", self.name,
            "--config", "Arm/vela.ini",
            "--system-config", self.system,
            "--memory-mode", self.memory_mode,
            "--output-dir", str(folder),
            "--verbose-performance", "--show-cpu-operations",
        )  # fmt: skip
        with own_process(
            "ethosu.vela", str(source), *options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as child:
            said = child.stdout.read() if child.stdout else ""
            code = child.wait()
        if code != 0 or not list(folder.glob("*_vela.tflite")):
            last = next((line for line in reversed(said.splitlines()) if line.strip()), f"exit code {code}")
            hint = "export it with --target ethos-u --precision int8"
            raise ToolError(f"Vela cannot compile {path} for {self.title}: {last}", hint)
        return said


_U55 = ("Ethos_U55_High_End_Embedded", "Shared_Sram")
_U65 = ("Ethos_U65_High_End", "Dedicated_Sram_384KB")
ETHOS_US = (
    EthosU(55, 128, *_U55),
    EthosU(55, 256, *_U55),
    EthosU(65, 256, *_U65),
    EthosU(65, 512, *_U65),
    EthosU(85, 256, "Ethos_U85_SYS_DRAM_Low", "Dedicated_Sram_384KB"),
    EthosU(85, 512, "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
    EthosU(85, 1024, "Ethos_U85_SYS_DRAM_High", "Dedicated_Sram_384KB"),
    EthosU(85, 2048, "Ethos_U85_SYS_DRAM_High", "Dedicated_Sram_384KB"),
)

_Row = Mapping[str, str]


class _Kind(NamedTuple):
    operator: str
    unit: str
    reason: str


def _rows(path: Path) -> list[_Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _layer(row: _Row) -> Layer:
    return Layer(row["Name"].strip(), row["Original Operator"].strip(), row["Target"].strip(), int(row["Op Cycles"]))


def _tensor(name: str, tensors: Collection[str]) -> str:
    """Return the tensor of the file that a step of Vela computes, such as `x` for `x_softmax_3`, or the name."""
    stem = name
    while stem and stem not in tensors:
        stem = stem.rpartition("/" if "/" in stem else "_")[0]
    return stem or name


def _reasons(said: str) -> Mapping[str, str]:
    """Return Vela's reason for each operator that it leaves on the CPU, by the name of its output."""
    return {found["name"]: " ".join(found["reason"].split()) for found in _UNSUPPORTED.finditer(said)}


def _placement(layers: Sequence[_Row], reasons: Mapping[str, str]) -> tuple[Placed, ...]:
    counts, macs, cycles = Counter[_Kind](), Counter[_Kind](), Counter[_Kind]()
    for row in layers:
        layer = _layer(row)
        reason = "" if layer.unit == "NPU" else reasons.get(layer.name, "Vela gives no reason")
        kind = _Kind(layer.operator, layer.unit, reason)
        counts[kind] += 1
        macs[kind] += int(row["MAC Count"])
        cycles[kind] += layer.cycles or 0
    all_macs, all_cycles = macs.total() or 1, cycles.total() or 1
    return tuple(
        Placed(
            kind.operator,
            counts[kind],
            macs[kind] / all_macs,
            kind.unit,
            kind.reason,
            cycles[kind] / all_cycles if kind.unit == "NPU" else None,
        )
        for kind in sorted(counts, key=lambda item: (-cycles[item], -counts[item], item))
    )
