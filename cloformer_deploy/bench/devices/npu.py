"""NPUs whose compiler is asked here which operators it places where, and for its estimate. No time is measured."""

from collections import Counter

from cloformer_deploy.bench.devices.base import Answer, Load, Measured, Request
from cloformer_deploy.bench.protocol import Figures
from cloformer_deploy.bench.results import Source
from cloformer_deploy.errors import CloformerDeployError
from cloformer_deploy.npu import Npu, no_artifact
from cloformer_deploy.progress import Progress


class NpuDevice:
    """See `Device`."""

    def __init__(self, npu: Npu) -> None:
        self.name = npu.name
        self._npu = npu

    def measure(self, request: Request, progress: Progress) -> Answer:
        """See `Device.measure`; each artifact for the NPU is compiled."""
        lack = self._npu.missing()
        if lack is not None:
            raise lack
        chosen = [load for load in request.loads if self._npu.takes(load.artifact.key)]
        if not chosen:
            raise no_artifact(self._npu)
        measured = []
        for index, load in enumerate(request.loads):
            measured.append(self._compiled(load) if load in chosen else self._another(load))
            progress.advance(index + 1, len(request.loads))
        source: Source = "estimated" if any(item.figures for item in measured) else "compile_only"
        return Answer(self._npu.title, source, None, None, None, tuple(measured))

    def _compiled(self, load: Load) -> Measured:
        load.check_alone()
        try:
            found = self._npu.compile(load.path)
        except CloformerDeployError as error:
            return Measured(load, "failed", str(error))
        placement: Counter[str] = Counter()
        for item in found.placement:
            placement[item.unit] += item.count
        estimate = found.estimate
        return Measured(
            load,
            "measured",
            runtime=self._npu.compiler,
            figures=None if estimate is None else Figures(0, estimate.ms, None, None),
            placement=placement,
            compiled_bytes=found.bytes,
            assumes=None if estimate is None else estimate.assumes,
        )

    def _another(self, load: Load) -> Measured:
        return Measured(load, "not_executed", f"it is not for {self._npu.title}")
