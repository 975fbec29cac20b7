"""All steps of `tune`: measure alternatives alone, combine those that pay, check the accuracy, measure the result."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cloformer_deploy import __version__
from cloformer_deploy.backends.registry import BACKENDS, target_of
from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.backends.tuning import Tuning
from cloformer_deploy.bench.devices.base import Device
from cloformer_deploy.bench.protocol import Protocol, speedup
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.data import open_calibration
from cloformer_deploy.data.calibration import bundled_of
from cloformer_deploy.data.calibration_making import first_images
from cloformer_deploy.errors import CheckFailedError, RequestError, ToolError
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.recipe_file import Measured, RecipeFile, write_recipe
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization.alternatives import Alternative
from cloformer_deploy.system.packages import installed_version
from cloformer_deploy.tune.candidates import Candidates
from cloformer_deploy.tune.choices import adds_integers, alternatives, changed
from cloformer_deploy.tune.measuring import Measuring, measured_of
from cloformer_deploy.tune.state import Trial, read_state
from cloformer_deploy.validation import ArtifactVerdict, validate

FEW = 16
"""Calibration images of files whose speed alone is measured."""
NEVER_SLOWER = 0.99
"""Least lower end of the interval of the result's speedup over the target's own choices; else those are kept."""


@dataclass(frozen=True)
class TuneRequest:
    """A request for a tuning.

    Attributes:
        asked: export of one artifact: one format, one precision; its output is not used.
        device: where to measure.
        threads: of the runtime.
        cores: to use; None leaves the choice to the system.
        output: recipe file to write.
        data: images for the accuracy limit, in the task's form; None takes the task's bundled images.
        images: images of it to use at most; None is `validate`'s choice.
        max_drop_pp: largest drop of the task's metric, percentage points; None is the limits of `validate`.
        most: files to measure at most.
        seconds: time for measuring and making files.
    """

    asked: ExportRequest
    device: Device
    threads: int
    cores: tuple[int, ...] | None
    output: Path
    data: Path | None
    images: int | None
    max_drop_pp: float | None
    most: int
    seconds: float

    @property
    def key(self) -> ArtifactKey:
        """Kind of the artifact."""
        (name,), (precision,) = self.asked.formats, self.asked.precisions
        return ArtifactKey(name, precision, self.asked.target_name(name))


@dataclass(frozen=True)
class Tuned:
    """The result of `tune`.

    Attributes:
        recipe: what was written.
        kept: names of the alternatives that it has.
        trials: every alternative's, beside the target's own choices, by its name.
        verdict: of the accuracy of its file.
        images: name of the data set.
    """

    recipe: RecipeFile
    kept: tuple[str, ...]
    trials: Mapping[str, Trial]
    verdict: ArtifactVerdict
    images: str


def tune(request: TuneRequest, progress: Progress) -> Tuned:
    """Search the choices that make the fastest file on a device within an accuracy limit, and write them to a file.

    Alternatives are measured one by one beside the target's own choices; those that pay are then added one after the
    other, the best first, each measured beside what was kept before. What was measured is kept in a folder beside the
    output until the end, so that an interrupted tuning goes on.

    Raises:
        RequestError: the device is no source of times, or an option is wrong.
        CheckFailedError: not even the target's own choices are within the accuracy limit.
        ToolError: a converter or the device failed.
    """
    check_output(request.output)
    work = request.output.absolute().parent / f".{request.output.name}.tune"
    work.mkdir(exist_ok=True)
    tuner = _Tuner(request, work, progress)
    found = tuner.run()
    write_recipe(request.output, found.recipe)
    shutil.rmtree(work, ignore_errors=True)
    return found


def check_output(output: Path) -> None:
    """Check, before minutes of work, that a recipe can be written to a path.

    Raises:
        RequestError: it cannot.
    """
    if output.suffix != ".json":
        raise RequestError(f"--output {output} is no JSON file", "end its name in .json")
    if output.is_dir() or not output.parent.is_dir():
        raise RequestError(f"--output {output} cannot be written there", "name a file in a folder that exists")


class _Tuner:
    def __init__(self, request: TuneRequest, work: Path, progress: Progress) -> None:
        self._request, self._progress, self._key = request, progress, request.key
        target = target_of(self._key.format, self._key.target)
        self._own = target.tuning(self._key.precision)
        # Anew each time: it tells whether weights, calibration set or packages are those of what is kept.
        made = export(replace(request.asked, output=work / "own", overwrite=True), progress).bundle
        key = _digest(request, made)
        files = work / key[:16]
        files.mkdir(exist_ok=True)
        self._weights_sha256 = made.manifest.weights.sha256
        self._network = NETWORKS[made.manifest.network]
        few = _few(made, request.asked.calibration, files)
        self._candidates = Candidates(request.asked, self._key, self._weights_sha256, files, few, progress)
        state = read_state(files / "state.json", key, progress)
        self._measuring = Measuring(
            request.device,
            request.threads,
            request.cores,
            self._candidates,
            state,
            files / "state.json",
            request.most,
            request.seconds,
            progress,
        )

    def run(self) -> Tuned:
        known = list(alternatives(self._own, self._network.rewrites))
        tunings = [self._changed(self._own, item) for item in known]
        found = {item.tuning: item for item in self._measuring.trials(tunings, self._own)}
        trials = {item.name: found[tuning] for item, tuning in zip(known, tunings, strict=True) if tuning in found}
        pays = [item for item in known if item.name in trials and trials[item.name].pays]
        pays.sort(key=lambda item: -(trials[item.name].speedup or 0))
        kept = self._combined(pays)
        kept, verdict, images = self._within_limit(kept)
        tuning = self._tuning(kept)
        measured = self._final(tuning)
        if measured is None or measured.speedup_ci95[0] < NEVER_SLOWER:
            kept, tuning, measured = [], self._own, None
            _, verdict, images = self._within_limit(kept)
        recipe = RecipeFile(
            weights_sha256=self._weights_sha256,
            format=self._key.format,
            precision=self._key.precision,
            target=self._key.target,
            tuning=tuning,
            measured=measured,
        )
        return Tuned(recipe, tuple(item.name for item in kept), trials, verdict, images)

    def _tuning(self, kept: list[Alternative]) -> Tuning:
        tuning = self._own
        for item in kept:
            tuning = self._changed(tuning, item)
        return tuning

    def _changed(self, tuning: Tuning, item: Alternative) -> Tuning:
        return changed(tuning, item, self._network.rewrites)

    def _combined(self, pays: list[Alternative]) -> list[Alternative]:
        """Return the alternatives that still pay when the better ones are there already; one of each group."""
        kept: list[Alternative] = pays[:1]
        for item in pays[1:]:
            if any(item.group and item.group == other.group for other in kept):
                continue
            before, after = self._tuning(kept), self._tuning([*kept, item])
            if any(trial.pays for trial in self._measuring.trials([after], before)):
                kept.append(item)
        return kept

    def _within_limit(self, kept: list[Alternative]) -> tuple[list[Alternative], ArtifactVerdict, str]:
        """Leave out alternatives until the file is within the limit: those that add integers first, the least first."""
        kept = list(kept)
        while True:
            bundle = self._candidates.whole(self._tuning(kept))
            result = validate(bundle, self._request.data, self._request.images, self._progress)
            (verdict,) = result.artifacts
            if self._holds(verdict):
                return kept, verdict, result.images
            if not kept:
                raise CheckFailedError(
                    f"not even the target's own choices are within the limit: {'; '.join(verdict.failures)}",
                    "allow a larger --max-drop, or calibrate on more images of the task",
                )
            adding = [item for item in kept if adds_integers(self._own, self._changed(self._own, item))]
            out = (adding or kept)[-1]
            self._progress.warn(f"left out, as the file is beyond the accuracy limit with it: {out.name}")
            kept.remove(out)

    def _holds(self, verdict: ArtifactVerdict) -> bool:
        limit = self._request.max_drop_pp
        if limit is None:
            return verdict.status == "passed"
        if verdict.found is None or verdict.found.drop_pp is None:
            raise RequestError("--max-drop needs labeled images", "give --data PATH with labels, or leave it out")
        return verdict.found.drop_pp <= limit

    def _final(self, tuning: Tuning) -> Measured | None:
        """Measure the result beside the target's own choices; None where they are the same."""
        if tuning == self._own:
            return None
        bundles = [self._candidates.whole(item) for item in (self._own, tuning)]
        answer, loads = self._measuring.run(bundles, Protocol())
        own, mine = (measured_of(answer, item) for item in loads)
        if own.status != "measured" or mine.status != "measured":
            raise ToolError(f"the result was not measured: {mine.reason or own.reason}", "see whether bench runs there")
        ratio, interval = speedup(mine.rounds_ms, own.rounds_ms)
        if interval is None:
            raise ToolError("too few rounds were measured for an interval", "tune on a device that runs more of them")
        return Measured(
            device=self._request.device.name,
            machine=answer.machine,
            runtime=f"{mine.runtime} {mine.runtime_version}",
            threads=self._request.threads,
            speedup=ratio,
            speedup_ci95=interval,
            rounds=min(len(own.rounds_ms), len(mine.rounds_ms)),
            versions=_versions(self._key.format),
        )


def _few(made: Bundle, given: Path | None, work: Path) -> Path | None:
    """Write a calibration set of a few images; None where the artifact needs none."""
    used = made.manifest.artifacts[0].calibration
    if used is None:
        return None
    whole = open_calibration(given) if given is not None else bundled_of(used.sha256)
    assert whole is not None  # noqa: S101 - the export has just used it
    path = work / "few.safetensors"
    first_images(whole, FEW, path)
    return path


def _versions(format_name: str) -> dict[str, str]:
    packages = ("torch", *BACKENDS[format_name].packages)
    return {package: installed_version(package) or "" for package in packages}


def _digest(request: TuneRequest, made: Bundle) -> str:
    """Return the digest of all that a measurement depends on beside the choices."""
    artifact = made.manifest.artifacts[0]
    parts = [
        __version__,
        made.manifest.weights.sha256,
        artifact.model_dump(mode="json", exclude={"sha256", "bytes", "npus"}),
        made.manifest.preprocessing.model_dump(mode="json"),
        request.device.name,
        request.threads,
        request.cores,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
