"""A device in one file and one registry entry: this very process, which runs each file a few times."""

import time

import numpy as np

from cloformer_deploy.backends.registry import runtime_for
from cloformer_deploy.bench.devices import DEVICES, Answer, Device, Kind, Measured, Options, Request
from cloformer_deploy.bench.protocol import figures
from cloformer_deploy.progress import Progress


class ToyDevice:
    """See `bench.devices.base.Device`."""

    name = "toy"

    def measure(self, request: Request, progress: Progress) -> Answer:
        measured = []
        for load in request.loads:
            session = runtime_for(load.artifact.format).open(load.path)
            times = []
            for _ in range(3):
                start = time.perf_counter()
                found = session.run(load.feed)
                times.append(1e3 * (time.perf_counter() - start))
            outputs = {name: np.asarray(values) for name, values in found.items()}
            measured.append(Measured(load, "measured", figures=figures(times), rounds_ms=tuple(times), outputs=outputs))
        return Answer("a toy", "host", None, None, None, tuple(measured))


def _parse(detail: str, options: Options) -> Device:
    return ToyDevice()


def register() -> None:
    """Make the one registry entry."""
    DEVICES["toy"] = Kind("toy", "a toy", lambda: None, _parse)


register()
