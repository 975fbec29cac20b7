"""Jobs for the runner, and its answers: the same on this machine and on a board (see `bench/runner.py`)."""

import base64
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bench.devices.base import Answer, Load, Measured, Request
from cloformer_deploy.bench.protocol import figures
from cloformer_deploy.bench.results import Conditions, Source
from cloformer_deploy.errors import RequestError, ToolError
from cloformer_deploy.progress import Progress

RUNNER = Path(__file__).parent.parent / "runner.py"
MACHINE = RUNNER.with_name("machine.py")
JOB_NAME = "job.json"
_SYSTEMS = {"Darwin": "macOS"}
"""Names of systems that differ from `platform.system()`."""


class Placed(NamedTuple):
    """A load, and the paths of its files as the runner shall open them.

    Attributes:
        load: what is measured.
        path: of the artifact.
        opener: of the format's opener.
        inputs: .npy files by input name.
        sha256: checksum that the runner compares; None where nothing is sent.
    """

    load: Load
    path: str
    opener: str
    inputs: Mapping[str, str]
    sha256: str | None = None


class Entry(NamedTuple):
    """One measurement of a job: a load on one of its format's compute units (None where there is no choice)."""

    placed: Placed
    unit: str | None


def entries(placed: Sequence[Placed]) -> dict[str, Entry]:
    """Return the measurements of a job under unique names: every load on every unit of its format."""
    listed = [Entry(item, unit) for item in placed for unit in BACKENDS[item.load.artifact.format].opener.units]
    return {f"entry{number}": entry for number, entry in enumerate(listed)}


def job(known: Mapping[str, Entry], request: Request) -> str:
    """Return a job in JSON; `runner.measure` describes it.

    Args:
        known: entries by name.
        request: threads, cores and length of the measurement.
    """
    files = [
        {
            "name": name,
            "path": placed.path,
            "opener": placed.opener,
            "modules": BACKENDS[placed.load.artifact.format].opener.modules,
            "inputs": placed.inputs,
            "sha256": placed.sha256,
            "unit": unit,
        }
        for name, (placed, unit) in known.items()
    ]
    limits = {"threads": request.threads, "cores": request.cores, "timeout_s": request.timeout_s}
    return json.dumps({"files": files, **limits, **asdict(request.protocol)})


def survey_request(loads: Sequence[Load]) -> str:
    """Return the argument of `machine.py` for the formats of some loads."""
    openers = {name: BACKENDS[name].opener for name in sorted({load.artifact.format for load in loads})}
    return json.dumps({name: {"modules": item.modules, "system": item.system} for name, item in openers.items()})


def runnable(survey: Mapping[str, Any], loads: Sequence[Load]) -> tuple[list[Load], list[Measured]]:
    """Return the loads that a machine can run, and for each of the others why it is not executed or failed.

    Args:
        survey: the machine's answer to `survey_request`.
        loads: artifacts.

    Raises:
        BundleError: the runtime of one that the machine can run would read other files.
        ToolError: all that it can run are damaged.
    """
    problems = {name: _problem(survey, name) for name in {load.artifact.format for load in loads}}
    others = [Measured(load, "not_executed", problems[load.artifact.format]) for load in loads]
    able, unable = [], [item for item in others if item.reason is not None]
    for load in loads:
        if problems[load.artifact.format] is None:
            try:
                load.check_alone()
            except ToolError as error:
                unable.append(Measured(load, "failed", error.message))
                continue
            able.append(load)
    if not able and (broken := [item for item in unable if item.status == "failed"]):
        raise ToolError(str(broken[0].reason), "export it again")
    return able, unable


def _problem(survey: Mapping[str, Any], name: str) -> str | None:
    system = BACKENDS[name].opener.system
    if system not in (None, survey["system"]):
        return f"{name} files run on {_SYSTEMS.get(str(system), system)} only, and this is {survey['system']}"
    if survey["numpy"] is None:
        return str(survey["numpy_problem"])
    problem: str | None = survey["runtimes"][name]["problem"]
    return problem


def packages(loads: Sequence[Load], system: str) -> str:
    """Return what pip has to install on a machine so that it can run the loads whose formats run on its system."""
    openers = [BACKENDS[load.artifact.format].opener for load in loads]
    lists = [item.packages.split() for item in openers if item.system in (None, system)]
    return " ".join(dict.fromkeys(word for words in lists for word in words))


def read_answer(
    device: str,
    lines: Iterator[str],
    survey: Mapping[str, Any],
    source: Source,
    request: Request,
    known: Mapping[str, Entry],
    not_executed: Sequence[Measured],
    progress: Progress,
) -> Answer:
    """Read the runner's answer.

    Args:
        device: name of the device, for errors.
        lines: the runner's output, one JSON object each.
        survey: the machine's answer to `survey_request`.
        source: origin of the times, unless the machine is emulated.
        request: the request that is answered.
        known: entries of the job by name.
        not_executed: measurements of the loads that the job left out.
        progress: takes the share that is done.

    Raises:
        RequestError: the machine has no such cores.
        ToolError: the output ends before the runner did, or is not the runner's.
    """
    events: dict[str, dict[str, Any]] = {}
    found = list(not_executed)
    for line in lines:
        try:
            event = json.loads(line)
            kind = event["event"]
            if kind == "progress":
                progress.advance(round(100 * event["share"]), 100)
            elif kind == "refused":
                raise RequestError(event["reason"], "give others with --cores, or leave them out")
            elif kind in ("measured", "failed"):
                found.append(_measured(known[event["name"]], event))
            else:
                events[kind] = event
        except (ValueError, KeyError, TypeError) as error:
            message = f"the output of the runner on {device} is not understood: {line[:200]!r}"
            raise ToolError(message, "try again; if it stays, report it") from error
    if "end" not in events:
        message = f"the answer of {device} ended in the middle: the connection was lost, or the runner was ended"
        raise ToolError(message, "try again; see whether it ran out of memory")
    places = {load: place for place, load in enumerate(request.loads)}
    found.sort(key=lambda item: (places[item.load], item.unit or ""))
    return Answer(
        machine=survey["machine"],
        source="emulated" if survey["emulated"] else source,
        cores=tuple(events["begin"]["cores"]),
        before=Conditions.model_validate(events["begin"]["conditions"]),
        after=Conditions.model_validate(events["end"]["conditions"]),
        measured=tuple(found),
    )


def _measured(entry: Entry, event: Mapping[str, Any]) -> Measured:
    load, unit = entry.placed.load, entry.unit
    if event["event"] == "failed":
        return Measured(load, "failed", str(event["reason"]), unit=unit)
    outputs = load.channels_first({name: _array(value) for name, value in event["outputs"].items()})
    broken = [name for name, values in outputs.items() if not np.isfinite(values).all()]
    if broken:
        return Measured(load, "failed", f"output {', '.join(broken)} holds NaN or infinity there", unit=unit)
    rounds = event["rounds_ms"]
    return Measured(
        load,
        "measured",
        unit=unit,
        runtime=_runtime_name(load.artifact.format, event["module"]),
        runtime_version=event["version"],
        figures=figures([value for times in rounds for value in times]),
        rounds_ms=tuple(statistics.median(times) for times in rounds),
        init_ms=event["init_ms"],
        first_ms=event["first_ms"],
        peak_rss_bytes=event["peak_rss_bytes"],
        outputs=outputs,
    )


def _array(value: Mapping[str, Any]) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(value["float32"]), "<f4").reshape(value["shape"])


def _runtime_name(format_name: str, module: str) -> str:
    """Return the runtime's name for the module that ran a file: the first module is that of the first runtime."""
    backend = BACKENDS[format_name]
    return backend.runtimes[0].name if module == backend.opener.modules[0] else module.split(".")[0].replace("_", "-")
