"""The runner from outside: its job, and what its lines of JSON say. The same on this machine and on a board."""

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cloformer_deploy.bench.devices.base import Answer, Load, Measured, Request
from cloformer_deploy.bench.protocol import figures
from cloformer_deploy.bench.results import Conditions, Source
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import RequestError, ToolError
from cloformer_deploy.progress import Progress

RUNNER = Path(__file__).parent.parent / "runner.py"
JOB_NAME = "job.json"
RUNTIME_NAMES = {"ai_edge_litert": "litert", "tflite_runtime": "tflite-runtime"}
"""Of modules, where they differ."""


def job(entries: Sequence[Mapping[str, Any]], request: Request) -> str:
    """A job in JSON; see `runner.measure`, which also says what an entry is."""
    limits = {"threads": request.threads, "cores": request.cores, "timeout_s": request.timeout_s}
    return json.dumps({"files": entries, **limits, **asdict(request.protocol)})


def entry(load: Load, path: str, image: str, sha256: str | None = None, unit: str | None = None) -> dict[str, Any]:
    """An artifact's entry in a job, for one of Core ML's compute units where it has them."""
    artifact = load.artifact
    return {
        "name": artifact.path + ("" if unit is None else f"#{unit}"),
        "path": path,
        "kind": artifact.format,
        "image": image,
        "sha256": sha256,
        "unit": unit,
    }


def runnable(survey: Mapping[str, Any], loads: Sequence[Load]) -> tuple[list[Load], dict[str, str]]:
    """The artifacts that a surveyed machine can run, and by path why it cannot run the others."""
    reasons = {}
    for load in loads:
        runtime = survey["runtimes"][load.artifact.format]
        problem = runtime["problem"] if survey["numpy"] else survey["numpy_problem"]
        if problem is not None:
            reasons[load.artifact.path] = str(problem)
    return [load for load in loads if load.artifact.path not in reasons], reasons


def read_answer(
    name: str,
    lines: Iterator[str],
    survey: Mapping[str, Any],
    source: Source,
    request: Request,
    not_executed: Mapping[str, str],
    progress: Progress,
) -> Answer:
    """What the runner's lines say.

    Args:
        name: of the device, for errors.
        lines: one of JSON each.
        survey: what the machine said of itself before.
        source: what its times are, unless it is emulated.
        request: what it was asked.
        not_executed: by path, why it was not given an artifact.
        progress: told of the share that is done.

    Raises:
        RequestError: it has no such cores.
        ToolError: the lines end before the runner did, or are not the runner's.
    """
    events: dict[str, dict[str, Any]] = {}
    artifacts = {load.artifact.path: load.artifact for load in request.loads}
    found = [Measured(artifacts[path], "not_executed", reason) for path, reason in not_executed.items()]
    for line in lines:
        try:
            event = json.loads(line)
            kind = event["event"]
            if kind == "progress":
                progress.advance(round(100 * event["share"]), 100)
            elif kind == "refused":
                raise RequestError(event["reason"], "give others with --cores, or leave them out")
            elif kind in ("measured", "failed"):
                path, _, unit = event["name"].partition("#")
                found.append(_measured(artifacts[path], unit or None, event))
            else:
                events[kind] = event
        except (ValueError, KeyError, TypeError) as error:
            message = f"the runner was expected to say something else than {line[:200]!r}"
            raise ToolError(message, "try again; if it stays, report it") from error
    if "end" not in events:
        message = f"the answer of {name} ended in the middle: the connection was lost, or the runner was ended"
        raise ToolError(message, "try again; see whether it ran out of memory")
    order = list(artifacts)
    found.sort(key=lambda item: (order.index(item.artifact.path), item.unit or ""))
    return Answer(
        machine=survey["machine"],
        source="emulated" if survey["emulated"] else source,
        cores=tuple(events["begin"]["cores"]),
        before=Conditions.model_validate(events["begin"]["conditions"]),
        after=Conditions.model_validate(events["end"]["conditions"]),
        measured=tuple(found),
    )


def _measured(artifact: Artifact, unit: str | None, event: Mapping[str, Any]) -> Measured:
    if event["event"] == "failed":
        return Measured(artifact, "failed", str(event["reason"]), unit=unit)
    if not all(map(math.isfinite, event["logits"])):
        return Measured(artifact, "failed", "its logits hold NaN or infinity there", unit=unit)
    rounds = event["rounds_ms"]
    return Measured(
        artifact,
        "measured",
        unit=unit,
        runtime=RUNTIME_NAMES.get(event["runtime"], event["runtime"]),
        runtime_version=event["version"],
        figures=figures([value for times in rounds for value in times]),
        rounds_ms=tuple(statistics.median(times) for times in rounds),
        init_ms=event["init_ms"],
        first_ms=event["first_ms"],
        peak_rss_bytes=event["peak_rss_bytes"],
        logits=tuple(event["logits"]),
    )
