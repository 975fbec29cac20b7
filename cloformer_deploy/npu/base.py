"""NPUs that are asked about on this machine: by their compiler, and by their simulator where there is one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cloformer_deploy.backends.base import Runtime
from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.errors import MissingPartError, RequestError

SIMULATED_IMAGES = 100
"""Images that a simulator runs where the user gives no number: it needs about a second for each."""


@dataclass(frozen=True)
class Placed:
    """Operators of one type that run on one unit.

    Attributes:
        operator: type, as the compiler or, on the CPU, the format calls it.
        count: number of them.
        share_of_macs: share (0..1) of the file's multiply-accumulates; None where it is not known.
        unit: CPU, or what runs them instead: NPU, XNNPACK.
        reason: why they are on the CPU, in the compiler's words; empty for those that are.
        share_of_cycles: share (0..1) of the NPU's cycles by the compiler's estimate; None where it has none.
    """

    operator: str
    count: int
    share_of_macs: float | None
    unit: str
    reason: str = ""
    share_of_cycles: float | None = None


@dataclass(frozen=True)
class Layer:
    """An operation of the compiled form.

    Attributes:
        name: of the tensor that it writes.
        operator: type of the operator that it is part of.
        unit: NPU or CPU.
        cycles: of the NPU, by the compiler's estimate; None where it makes none.
    """

    name: str
    operator: str
    unit: str
    cycles: int | None


@dataclass(frozen=True)
class Estimate:
    """A compiler's estimate of one run. It is no measurement: no device was asked.

    Attributes:
        ms: time of what runs on the NPU, milliseconds.
        memory_bytes: bytes in use, by the name of the memory.
        assumes: the system that it is about.
    """

    ms: float
    memory_bytes: Mapping[str, int]
    assumes: str


@dataclass(frozen=True)
class Compiled:
    """The compiler's account of a file.

    Attributes:
        placement: every operator, those with the most work first.
        bytes: size of the compiled form; None where nothing was compiled.
        estimate: the compiler's own; None where it makes none.
        layers: operations in order; empty where only types of operators are known.
        notes: known faults that the file may meet there, in sentences.
        predicted: placement by rules, where `placement` is what the processor's own software has planned instead.
    """

    placement: tuple[Placed, ...]
    bytes: int | None
    estimate: Estimate | None = None
    layers: tuple[Layer, ...] = ()
    notes: tuple[str, ...] = ()
    predicted: tuple[Placed, ...] = ()

    @property
    def npu_share(self) -> float:
        """The lesser of two shares (0..1) that run on the NPU: of operators, and of multiply-accumulates if known."""
        if not self.left_on_cpu:
            return 1.0
        mine = [item for item in self.placement if item.unit != "CPU"]
        share = sum(item.count for item in mine) / max(sum(item.count for item in self.placement), 1)
        if all(item.share_of_macs is None for item in self.placement):
            return share
        return min(share, sum(item.share_of_macs or 0.0 for item in mine))

    @property
    def left_on_cpu(self) -> int:
        """Number of operators that the NPU does not run."""
        return sum(item.count for item in self.placement if item.unit == "CPU")


class Placer(Protocol):
    """Something that tells which operators of a file run where.

    Attributes:
        name: as `--placement` takes it.
        title: its name in prose.
        compiler: what tells it, with the version, in prose.
        export_options: options of `export` that make an artifact for it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def compiler(self) -> str: ...  # noqa: D102

    @property
    def export_options(self) -> str: ...  # noqa: D102

    def takes(self, kind: ArtifactKey) -> bool:
        """Tell whether it can run artifacts of a kind."""
        ...

    def missing(self) -> MissingPartError | None:
        """Return what its compiler lacks on this machine, or None if it can be asked."""
        ...

    def compile(self, path: Path, output: Path | None = None) -> Compiled:
        """Return what the compiler, or what stands for it, says of a file.

        Args:
            path: of the file.
            output: where to keep the compiled form; None does not keep it. Only NPUs have one.

        Raises:
            MissingPartError: the compiler is not installed here.
            BundleError: the file is not one that it can read.
            ToolError: it failed; the message quotes it.
        """
        ...


class Npu(Placer, Protocol):
    """An NPU of one architecture or configuration, whose compiler runs here; `--device` takes its name too.

    Attributes:
        simulator: executes artifacts as the NPU would; None where the vendor offers nothing that does.
    """

    @property
    def simulator(self) -> Runtime | None: ...  # noqa: D102


def no_artifact(npu: Placer, bundle: Path | None = None) -> RequestError:
    """Return the error that a bundle has no artifact for an NPU, with the command that adds one."""
    place = "" if bundle is None else f" --output {bundle}"
    hint = f"add one: cloformer-deploy export {npu.export_options}{place}"
    return RequestError(f"{bundle or 'the bundle'} has no artifact for {npu.title}", hint)
