"""The accuracy search: write and run candidates for one quantized file, and keep one that meets the accuracy limit."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cloformer_deploy.backends.base import ExportSpec
from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bundle import ListedFiles, digest
from cloformer_deploy.errors import CheckFailedError, ToolError
from cloformer_deploy.exporting.jobs import Accuracy, AccuracyLimit, Job
from cloformer_deploy.exporting.search_state import Evaluated, read_state, write_state
from cloformer_deploy.exporting.trial_work import FileTrial, ReferenceTrial
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization.search import Trial, largest_cost, search
from cloformer_deploy.quantization.sensitivity import Sensitivity
from cloformer_deploy.system.packages import installed_version
from cloformer_deploy.tasks import task_of
from cloformer_deploy.validation.cached_inference import results
from cloformer_deploy.validation.inference import threads_restored
from cloformer_deploy.validation.workers import workers_of
from cloformer_deploy.validation.workers.base import Work

if TYPE_CHECKING:
    from cloformer_deploy.quantization.preparation import Observed

_BATCH = 16
_SENSITIVITY_IMAGES = 32
"""Enough to rank blocks by the energy of their error; simulating one on them takes as long as a file on 1,000."""


class AccuracySearch:
    """The search for one artifact.

    Args:
        job: the conversion that it is part of.
        limit: the job's.
        precision: the artifact's.
        base: PyTorch's model, ready to be planned.
        calibration_sha256: of the set that it was observed on.
        write: writes a file with these blocks excluded from quantization, and returns its spec.
        progress: is told what is going on.
    """

    def __init__(
        self,
        job: Job,
        limit: AccuracyLimit,
        precision: str,
        base: "Observed",
        calibration_sha256: str,
        write: Callable[[Sequence[str], Path], ExportSpec],
        progress: Progress,
    ) -> None:
        source = job.source
        self._job, self._limit, self._precision = job, limit, precision
        self._write, self._progress = write, progress
        self._task = task_of(source)
        self._images = self._task.open_data(limit.data, source.num_classes, source.labels)
        self._sensitivity = Sensitivity(NETWORKS[source.network], base, self._task.outputs)
        self._outside = base.recipe.outside
        self._state_path = job.states[precision]
        key = _key(job, limit, precision, calibration_sha256)
        self._state = read_state(self._state_path, key, len(self._images), progress)
        self._used = 0
        self._specs: dict[tuple[str, ...], ExportSpec] = {}
        """Spec of the file at the artifact's place, once there is one, by its excluded blocks."""

    def run(self) -> tuple[ExportSpec, Accuracy]:
        """Leave a file that meets the limit at the artifact's place; return its spec, and what was found.

        Raises:
            CheckFailedError: no candidate within the budget meets the limit.
            MissingPartError: a worker has another environment than this process.
            ToolError: a conversion, a run or the workers failed, or the state cannot be written.
        """
        with workers_of(self._limit.workers, self._progress) as self._workers:
            return self._found()

    def _found(self) -> tuple[ExportSpec, Accuracy]:
        self._evaluate_pytorch()
        outcome = search(
            list(self._sensitivity.blocks),
            self._evaluate,
            self._measure,
            self._limit.max_drop_pp,
            self._limit.budget - self._used,
        )
        if outcome.held is None:
            raise self._failed(outcome.best)
        excluded = outcome.held.excluded_layers
        found = self._made(excluded)  # again, if only its figures are left from before an interruption
        if found.drop_pp > self._limit.max_drop_pp:
            raise self._failed(Trial(excluded, found.drop_pp))
        accuracy = Accuracy(
            max_drop_pp=self._limit.max_drop_pp,
            metric=self._task.metric or "",
            drop_pp=found.drop_pp,
            drop_ci95_pp=found.drop_ci95_pp,
            n=len(self._images),
            evaluations=self._used,
            budget=self._limit.budget,
            excluded_layers=excluded,
        )
        return self._specs[excluded], accuracy

    def _evaluate_pytorch(self) -> None:
        """Keep the reference's evidence of each image, once."""
        self._count("PyTorch", self._state.expected is None)
        if self._state.expected is not None:
            return
        weights = self._job.source.weights
        listed = ListedFiles(weights.parent, {weights.name: digest(weights)})
        evidence = self._evidence(ReferenceTrial(self._job, self._images, listed))
        self._save(expected=tuple(item.hex() for item in evidence))

    def _evidence(self, work: Work) -> list[bytes]:
        """Return the evidence of each image."""
        evidence: list[bytes] = []
        with threads_restored():
            for place, (found,) in results(work, None, self._workers):
                evidence += found
                self._progress.advance(place.stop, len(self._images))
        return evidence

    def _measure(self, block: str) -> float:
        """Return the error of the outputs when one block alone is quantized, on some of the images."""
        known = self._state.noise.get(block)
        self._count(f"{block} alone quantized", known is None)
        if known is not None:
            return known
        noise = self._sensitivity.noise(block, self._some_images())
        self._save(noise={**self._state.noise, block: noise})
        return noise

    def _some_images(self) -> Iterator[torch.Tensor]:
        preprocessing, total = self._job.source.preprocessing, len(self._images)
        count = min(_SENSITIVITY_IMAGES, total)
        some = self._images.select([index * total // count for index in range(count)])
        for batch in some.batches(preprocessing, _BATCH):
            yield torch.from_numpy(preprocessing.normalize(batch.pixels))

    def _evaluate(self, excluded: tuple[str, ...]) -> float:
        """Return the drop of a file with these blocks excluded."""
        known = self._known(excluded)
        if known is None:
            return self._made(excluded).drop_pp
        self._count(self._described(excluded), new=False)
        return known.drop_pp

    def _made(self, excluded: tuple[str, ...]) -> Evaluated:
        """Write a file, unless it was kept; evaluate it, unless the very same was; keep it if it meets the limit."""
        known = self._known(excluded)
        if known is not None and excluded in self._specs:
            return known
        output = self._job.paths[self._precision]
        with tempfile.TemporaryDirectory(dir=output.parent) as folder:
            candidate = Path(folder, output.name)
            spec = self._write(excluded, candidate)
            sha256 = digest(candidate)
            if known is None or known.sha256 != sha256:
                known = self._run(candidate, excluded, sha256)
            if known.drop_pp <= self._limit.max_drop_pp:
                _replace(candidate, output)
                self._specs = {excluded: spec}
        return known

    def _run(self, path: Path, excluded: tuple[str, ...], sha256: str) -> Evaluated:
        """Run a file on all images: one evaluation."""
        self._count(self._described(excluded), new=True)
        root = self._job.paths[self._precision].parent
        listed = ListedFiles(root, {path.relative_to(root).as_posix(): sha256})
        evidence = self._evidence(FileTrial(self._job, self._images, listed))
        expected = [bytes.fromhex(item) for item in self._state.expected or ()]
        compared = self._task.compare(expected, evidence, self._images.labels)
        if compared.drop_pp is None or compared.drop_ci95_pp is None:
            raise ToolError(f"{path.name} cannot be judged: {self._images.name} has no labels", "give labeled images")
        made = Evaluated(
            excluded_layers=excluded, sha256=sha256, drop_pp=compared.drop_pp, drop_ci95_pp=compared.drop_ci95_pp
        )
        others = tuple(item for item in self._state.files if item.excluded_layers != excluded)
        self._save(files=(*others, made))
        return made

    def _described(self, excluded: Sequence[str]) -> str:
        return f"{len(excluded)} of {len(self._sensitivity.blocks)} blocks in {self._outside}"

    def _known(self, excluded: tuple[str, ...]) -> Evaluated | None:
        return next((item for item in self._state.files if item.excluded_layers == excluded), None)

    def _count(self, what: str, new: bool) -> None:
        self._used += 1
        doing = f"Evaluation {self._used} of at most {self._limit.budget} of {self._job.format} {self._precision}"
        self._progress.step(f"{doing}: {what}" + ("" if new else ", known already"))

    def _save(self, **changes: Any) -> None:
        self._state = self._state.model_copy(update=changes)
        try:
            write_state(self._state_path, self._state)
        except OSError as error:
            raise ToolError(f"{self._state_path} cannot be written: {error}", "choose another --output") from error

    def _failed(self, best: Trial) -> CheckFailedError:
        limit, name = self._limit, self._job.paths[self._precision].name
        enough = 1 + largest_cost(len(self._sensitivity.blocks))
        if limit.budget < enough:
            hint = f"give --budget {enough}, which lets the search end; what it has found is kept"
        else:
            hint = "allow a larger --max-drop, calibrate on more images of the task, or export fp16"
        excluded = ", ".join(best.excluded_layers) or "nothing"
        return CheckFailedError(
            f"{name} does not meet --max-drop {limit.max_drop_pp:g}: after {self._used} evaluations of at most "
            f"{limit.budget} the smallest drop on {len(self._images)} images is {best.drop_pp:.2f} pp, "
            f"with {excluded} kept in {self._outside}",
            hint,
        )


def _replace(source: Path, target: Path) -> None:
    """Move a file or folder in place of an earlier candidate."""
    if target.is_dir():  # cannot be renamed over
        shutil.rmtree(target)
    source.replace(target)


def _key(job: Job, limit: AccuracyLimit, precision: str, calibration_sha256: str) -> str:
    """Return the SHA-256 of all that an evaluation depends on, except the excluded blocks."""
    asked = job.model_dump(mode="json", exclude={"paths", "calibration", "limit", "states"})
    del asked["source"]["weights"]
    recipe = job.target_for(precision).recipes.get(precision)
    packages = ("torch", *BACKENDS[job.format].packages)
    versions = [installed_version(package) for package in packages]
    fields = {} if recipe is None else vars(recipe)
    described = {name: sorted(value) if isinstance(value, frozenset) else value for name, value in fields.items()}
    parts = [asked, precision, described, calibration_sha256, limit.data_sha256, versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
