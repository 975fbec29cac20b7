"""Qualcomm's Hexagon: ONNX files compiled by ONNX Runtime's QNN execution provider, and run in its simulator.

Source: https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cloformer_deploy.backends.base import Feed
from cloformer_deploy.backends.failures import package_missing
from cloformer_deploy.backends.onnx.describe import node_macs, shapes_of
from cloformer_deploy.backends.onnx.file import load_model
from cloformer_deploy.backends.target import FLOATS, ArtifactKey
from cloformer_deploy.errors import MissingPartError, ToolError
from cloformer_deploy.npu import qnn
from cloformer_deploy.npu.base import Compiled, Layer, Placed
from cloformer_deploy.system.cores import threads_each
from cloformer_deploy.system.packages import require
from cloformer_deploy.system.subprocesses import silent_pool
from cloformer_deploy.tasks import Outputs

ARCHITECTURES = (68, 69, 73, 75, 79, 81)
"""Versions of the HTP processor that the provider compiles for; it takes any other without a word, for no use."""
_MODULES = ("onnxruntime_qnn", "onnxruntime", "onnx")
_EXTRA = "hexagon"
_UNSUPPORTED = "the provider does not support it"


@dataclass(frozen=True)
class Hexagon:
    """See `Npu`.

    Attributes:
        architecture: one of `ARCHITECTURES`.
    """

    architecture: int
    export_options: str = "--format onnx --target hexagon --precision int8"

    @property
    def name(self) -> str:
        """See `Npu.name`."""
        return f"hexagon-v{self.architecture}"

    @property
    def title(self) -> str:
        """See `Npu.title`."""
        return f"Hexagon V{self.architecture}"

    @property
    def compiler(self) -> str:
        """See `Npu.compiler`."""
        return f"onnxruntime-qnn {version('onnxruntime-qnn')}"

    @property
    def simulator(self) -> "HexagonSimulator":
        """See `Npu.simulator`."""
        return HexagonSimulator(self.architecture)

    def takes(self, kind: ArtifactKey) -> bool:
        """See `Npu.takes`; its compiler takes no float graphs."""
        return (kind.format, kind.target) == ("onnx", "hexagon") and kind.precision not in FLOATS

    def missing(self) -> MissingPartError | None:
        """See `Npu.missing`."""
        return package_missing(*_MODULES, extra=_EXTRA)

    def compile(self, path: Path, output: Path | None = None) -> Compiled:
        """See `Npu.compile`."""
        require(*_MODULES, extra=_EXTRA)
        model = load_model(path)
        macs = node_macs(model, shapes_of(model))
        with tempfile.TemporaryDirectory() as folder, silent_pool(1) as pool, _quoting(path):
            made = Path(folder, "compiled.onnx")
            pool.submit(qnn.compiled, str(path.absolute()), self.architecture, str(made)).result()
            trace = json.loads(made.with_name(qnn.TRACE).read_text())
            size = made.stat().st_size
            if output is not None:
                shutil.copyfile(made, output)
        rows, owners = _traced(trace)
        layers = tuple(
            Layer(node.output[0], *rows[owners[node.name]][:2], None)
            for node in model.graph.node
            if node.name in owners
        )
        return Compiled(_placement(rows, owners, macs or {}), size, layers=layers)


HEXAGONS = tuple(Hexagon(architecture) for architecture in ARCHITECTURES)


_Row = tuple[str, str, str]
"""Operator, unit, and the reason why it is on the CPU."""


def _traced(trace: Mapping[str, Any]) -> tuple[list[_Row], dict[str, int]]:
    """Return the operators of a trace (schema 2), and the index of the one that each of the file's nodes is part of."""
    rows: list[_Row] = []
    owners: dict[str, int] = {}
    for item in (item for graph in trace["subgraph_traces"] for item in graph["op_mappings"]):
        for source in item["sources"]:
            name = qnn.plain_name(source["name"])
            if name == qnn.plain_name(item["dst_name"]):
                owners[name] = len(rows)
            elif source["type"] == "OP":  # such as a conversion between two integer types, which the node brings along
                owners.setdefault(name, len(rows))
        rows.append((item["dst_qnn_op_type"], "NPU", ""))
    for node in trace["unsupported_nodes"]:
        owners[qnn.plain_name(node["name"])] = len(rows)
        rows.append((node["op_type"], "CPU", _UNSUPPORTED))
    return rows, owners


def _placement(rows: list[_Row], owners: Mapping[str, int], macs: Mapping[str, int]) -> tuple[Placed, ...]:
    """Return the operators, with multiply-accumulates by the names of the file's nodes."""
    counts, sums = Counter(rows), Counter[_Row]()
    for name, index in owners.items():
        sums[rows[index]] += macs.get(name, 0)
    total = sum(macs.values())
    ordered = sorted(counts, key=lambda row: (-sums[row], -counts[row], row))
    return tuple(Placed(row[0], counts[row], sums[row] / total if total else None, row[1], row[2]) for row in ordered)


class HexagonSimulator:
    """See `Runtime`. It computes what the processor would; the time it takes says nothing."""

    def __init__(self, architecture: int) -> None:
        self._architecture = architecture
        self.name = f"qnn-simulator-v{architecture}"
        self.title = f"QNN's simulator of Hexagon V{architecture}"

    def missing(self) -> MissingPartError | None:
        """See `Runtime.missing`."""
        return package_missing(*_MODULES, extra=_EXTRA)

    def version(self) -> str:
        """See `Runtime.version`."""
        return f"{version('onnxruntime-qnn')}, onnxruntime {version('onnxruntime')}"

    def open(self, path: Path, threads: int = 1) -> "HexagonSession":
        """See `Runtime.open`; with any number of `threads`, the images of a batch are run side by side on all cores."""
        require(*_MODULES, extra=_EXTRA)
        model = load_model(path)  # rejects weights kept in other files, which the provider would open
        batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value  # 0 is dynamic, which it cannot compile
        return HexagonSession(path, self._architecture, batch or 1)


class HexagonSession:
    """See `Session`.

    Args:
        path: of the file.
        architecture: one of `ARCHITECTURES`.
        batch: its fixed batch size.
    """

    def __init__(self, path: Path, architecture: int, batch: int) -> None:
        self._path, self._size = path, batch
        self.batch: int | None = None if batch == 1 else batch
        self._run = partial(qnn.run, str(path.absolute()), architecture)
        self._workers = silent_pool(threads_each(1))

    def run(self, feed: Feed) -> Outputs:
        """See `Session.run`."""
        count = len(next(iter(feed.values())))
        parts = [
            {name: values[start : start + self._size] for name, values in feed.items()}
            for start in range(0, count, self._size)
        ]
        with _quoting(self._path):
            found = list(self._workers.map(self._run, parts))
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


@contextmanager
def _quoting(path: Path) -> Iterator[None]:
    """Turn failures of the provider's processes into errors that quote it."""
    try:
        yield
    except BrokenProcessPool as error:
        raise ToolError(f"the compiler or simulator of Hexagon crashed on {path}", "report this") from error
    except RuntimeError as error:
        hint = "export it with --target hexagon --precision int8: it takes no float operators"
        raise ToolError(f"the compiler or simulator of Hexagon failed on {path}: {error}", hint) from error
