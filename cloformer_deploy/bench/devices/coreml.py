"""Apple devices, by coremltools' own benchmarker: this Mac, or an iPhone or iPad attached to it."""

import asyncio
import platform
import statistics
from collections import Counter
from importlib.metadata import version
from typing import Any

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bench.devices.base import Answer, Kind, Load, Measured, Options, Request
from cloformer_deploy.bench.protocol import figures
from cloformer_deploy.bench.runner import BURST
from cloformer_deploy.errors import CloformerDeployError, MissingPartError, RequestError, ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.packages import require

FORM = "coreml[:NAME]"
FORMAT = "coreml"


def check() -> None:
    """See `Kind.check`."""
    if platform.system() != "Darwin":
        raise MissingPartError(
            f"the device coreml needs macOS, and this is {platform.system()}", "run the same command on a Mac"
        )
    require("coremltools", extra="coreml")


class CoreML:
    """See `Device`. An attached device needs Xcode, which builds and signs the app that runs the model there."""

    def __init__(self, device: str | None) -> None:
        self.name = "coreml" if device is None else f"coreml:{device}"
        self._device = device

    @classmethod
    def parse(cls, detail: str, _options: Options) -> "CoreML":
        """Make the device from the name of an attached device, or from nothing for this Mac."""
        return cls(detail or None)

    def measure(self, request: Request, progress: Progress) -> Answer:
        """See `Device.measure`."""
        check()
        loads = [load for load in request.loads if load.artifact.format == FORMAT]
        if not loads:
            raise RequestError(f"{self.name} runs Core ML files only, and there are none", "export --format coreml")
        try:
            measured = asyncio.run(asyncio.wait_for(self._all(loads, request, progress), request.timeout_s))
        except TimeoutError:
            raise ToolError(f"{self.name} took too long", "give more with --timeout") from None
        except CloformerDeployError:
            raise
        except Exception as error:  # coremltools' exception classes share no base but Exception
            raise ToolError(f"{self.name} failed: {error}", "see whether Xcode can run an app there") from error
        others = [
            Measured(load, "not_executed", f"{self.name} runs Core ML files only")
            for load in request.loads
            if load not in loads
        ]
        return Answer(
            self._device, "host" if self._device is None else "device", None, None, None, (*measured, *others)
        )

    async def _all(self, loads: list[Load], request: Request, progress: Progress) -> list[Measured]:
        """Measure all files on all units, interleaved round by round as in `runner.measure`."""
        device = await self._prepared()
        benches = [_Bench(load, unit, device) for load in loads for unit in BACKENDS[FORMAT].opener.units]
        for bench in benches:
            await bench.open(request)
        share = 0.0
        while share < 1:
            for bench in benches:
                await bench.burst()
            share = min(bench.share(request) for bench in benches)
            progress.advance(round(100 * share), 100)
        return [bench.measured() for bench in benches]

    async def _prepared(self) -> Any:
        """Return the attached device, ready to run models; None for this Mac."""
        if self._device is None:
            return None
        from coremltools.models.ml_program.experimental.remote_device import Device, DeviceState

        there = {device.name: device for device in Device.get_devices() if device.state == DeviceState.CONNECTED}
        if self._device not in there:
            names = ", ".join(there) or "none"
            raise ToolError(f"no device {self._device!r} is attached; attached: {names}", "connect and unlock it")
        return await there[self._device].prepare_for_model_debugging()


class _Bench:
    """Measures one file on one choice of compute units."""

    def __init__(self, load: Load, unit: str | None, device: Any) -> None:
        import coremltools
        from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker
        from PIL import Image

        self.load, self.unit = load, unit
        model = coremltools.models.MLModel(str(load.path), compute_units=coremltools.ComputeUnit[unit or "ALL"])
        image = load.artifact.input.kind == "image"
        self._inputs = {
            name: Image.fromarray(values[0].transpose(1, 2, 0)) if image else values
            for name, values in load.inputs.items()
        }
        self._benchmarker = MLModelBenchmarker(model, device)
        self._rounds: list[list[float]] = []
        self._init_ms = self._first_ms = 0.0
        self._placement: dict[str, int] = {}

    async def open(self, request: Request) -> None:
        """Load the file, run it once, warm it up, and read the placement of its operations."""
        self._init_ms = (await self._benchmarker.benchmark_load()).samples[0]
        self._first_ms = (await self._predict(1)).samples[0]
        warm_ms, runs = 0.0, 0
        while runs < request.protocol.warmup_runs or warm_ms < 1e3 * request.protocol.warmup_s:
            warm_ms += sum((await self._predict(BURST)).samples)
            runs += BURST
        operations = await self._benchmarker.benchmark_operation_execution(inputs=self._inputs)
        usages = [item.compute_device_usage for item in operations if item.compute_device_usage is not None]
        units = [type(usage.preferred_compute_device).__name__ for usage in usages]
        self._placement = dict(Counter(name.removeprefix("ML").removesuffix("ComputeDevice") for name in units))

    async def burst(self) -> None:
        """Run one round; its first run is not counted."""
        self._rounds.append((await self._predict(BURST, warmup=True)).samples)

    def _predict(self, runs: int, *, warmup: bool = False) -> Any:
        return self._benchmarker.benchmark_predict(inputs=self._inputs, iterations=runs, warmup=warmup)

    def share(self, request: Request) -> float:
        """Return the share of the work that is done; both the runs and the seconds have to be reached."""
        times = [value for burst in self._rounds for value in burst]
        return min(1.0, len(times) / request.protocol.runs, sum(times) / 1e3 / request.protocol.seconds)

    def measured(self) -> Measured:
        """Return everything that was measured."""
        return Measured(
            self.load,
            "measured",
            unit=self.unit,
            runtime="coreml",
            runtime_version=f"coremltools {version('coremltools')}",
            figures=figures([value for burst in self._rounds for value in burst]),
            rounds_ms=tuple(statistics.median(burst) for burst in self._rounds),
            init_ms=self._init_ms,
            first_ms=self._first_ms,
            placement=self._placement,
        )


KIND = Kind(FORM, "this Mac, or an iPhone or iPad attached to it", check, CoreML.parse)
