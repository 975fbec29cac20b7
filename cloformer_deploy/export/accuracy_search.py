"""AccuracySearch an accuracy limit: candidates for one artifact are written and run, and the one that held is kept."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cloformer_deploy.backends.base import Graph
from cloformer_deploy.backends.registry import FORMATS, runtime_for
from cloformer_deploy.bundle.bundle import digest
from cloformer_deploy.data import Batch, open_folder
from cloformer_deploy.errors import CheckFailedError, ToolError
from cloformer_deploy.export.jobs import Accuracy, AccuracyLimit, Job
from cloformer_deploy.export.search_state import Evaluated, read_state, write_state
from cloformer_deploy.quantization.recipes import RECIPES
from cloformer_deploy.quantization.search import Trial, largest_cost, search
from cloformer_deploy.quantization.sensitivity import Sensitivity
from cloformer_deploy.system.packages import installed_version
from cloformer_deploy.validation import Drift, artifact_logits, reference_logits

if TYPE_CHECKING:
    from cloformer_deploy.networks.cloformer import CloFormer
    from cloformer_deploy.quantization.preparation import Observed

_BATCH = 16
_SENSITIVITY_IMAGES = 32
"""Enough to rank blocks by the energy of their error; simulating one on them takes no longer than a file on 1,000."""


class AccuracySearch:
    """The search for one artifact.

    Args:
        job: the conversion it is part of.
        limit: the job's.
        precision: the artifact's.
        reference: PyTorch's model.
        base: the same, ready to be planned.
        calibration_sha256: of the set that it was observed on.
        write: writes a file with these blocks left float, and gives its graph.
        tell: sends an event.
    """

    def __init__(
        self,
        job: Job,
        limit: AccuracyLimit,
        precision: str,
        reference: "CloFormer",
        base: "Observed",
        calibration_sha256: str,
        write: Callable[[Sequence[str], Path], Graph],
        tell: Callable[..., None],
    ) -> None:
        self._job, self._limit, self._precision, self._reference = job, limit, precision, reference
        self._write, self._tell = write, tell
        self._images = open_folder(limit.data, reference.num_classes, job.labels)
        self._sensitivity = Sensitivity(base)
        self._state_path = job.states[precision]
        self._state = read_state(
            self._state_path,
            _key(job, limit, precision, calibration_sha256),
            reference.num_classes,
            len(self._images),
            lambda text: tell("warning", text=text),
        )
        self._used = 0
        self._graphs: dict[tuple[str, ...], Graph] = {}
        """Of the file at the artifact's place, once there is one, by the blocks that it leaves float."""

    def hold(self) -> tuple[Graph, Accuracy]:
        """Leave the file that held the limit at the artifact's place; its graph, and what was found.

        Raises:
            CheckFailedError: no candidate within the budget held it.
            ToolError: a conversion or a run failed, or the state cannot be written.
        """
        self._look_at_pytorch()
        outcome = search(
            list(self._sensitivity.blocks),
            self._evaluate,
            self._measure,
            self._limit.max_drop_pp,
            self._limit.budget - self._used,
        )
        if outcome.held is None:
            raise self._failed(outcome.best)
        excluded_layers = outcome.held.excluded_layers
        found = self._made(excluded_layers)  # again, if only its figures are left from before an interruption
        if found.drop_pp > self._limit.max_drop_pp:
            raise self._failed(Trial(excluded_layers, found.drop_pp))
        accuracy = Accuracy(
            max_drop_pp=self._limit.max_drop_pp,
            top1_drop_pp=found.drop_pp,
            top1_drop_ci95_pp=found.drop_ci95_pp,
            n=len(self._images),
            evaluations=self._used,
            budget=self._limit.budget,
            excluded_layers=excluded_layers,
        )
        return self._graphs[excluded_layers], accuracy

    def _look_at_pytorch(self) -> None:
        """Find the class that the reference gives each image, once."""
        self._count("PyTorch", self._state.expected is None)
        if self._state.expected is not None:
            return
        found: list[int] = []
        for batch in self._batches():
            logits = reference_logits(self._reference, batch.pixels, self._job.preprocessing)
            found += logits.argmax(axis=1).tolist()
        self._save(expected=tuple(found))

    def _measure(self, block: str) -> float:
        """The error that the integers of one block alone make, on some of the images."""
        known = self._state.noise.get(block)
        self._count(f"{block} alone in integers", known is None)
        if known is not None:
            return known
        noise = self._sensitivity.noise(block, self._some_images())
        self._save(noise={**self._state.noise, block: noise})
        return noise

    def _some_images(self) -> Iterator[torch.Tensor]:
        preprocessing = self._job.preprocessing
        for batch in self._images.limited(_SENSITIVITY_IMAGES).batches(preprocessing, _BATCH):
            yield torch.from_numpy(preprocessing.normalize(batch.pixels))

    def _evaluate(self, excluded_layers: tuple[str, ...]) -> float:
        """The drop of a file with these blocks left float."""
        known = self._known(excluded_layers)
        if known is None:
            return self._made(excluded_layers).drop_pp
        self._count(self._in_numbers(excluded_layers), new=False)
        return known.drop_pp

    def _made(self, excluded_layers: tuple[str, ...]) -> Evaluated:
        """Write a file, unless it was kept; evaluate it, unless the very same was; keep it if it holds the limit."""
        known = self._known(excluded_layers)
        if known is not None and excluded_layers in self._graphs:
            return known
        output = self._job.outputs[self._precision]
        with tempfile.TemporaryDirectory(dir=output.parent) as folder:
            candidate = Path(folder, output.name)
            graph = self._write(excluded_layers, candidate)
            sha256 = digest(candidate)
            if known is None or known.sha256 != sha256:
                known = self._run(candidate, excluded_layers, sha256)
            if known.drop_pp <= self._limit.max_drop_pp:
                _replace(candidate, output)
                self._graphs = {excluded_layers: graph}
        return known

    def _run(self, path: Path, excluded_layers: tuple[str, ...], sha256: str) -> Evaluated:
        """One evaluation: a file on its runtime, over all images."""
        self._count(self._in_numbers(excluded_layers), new=True)
        classes = np.eye(self._reference.num_classes, dtype=np.float32)
        expected = np.asarray(self._state.expected)
        session = runtime_for(self._job.format).open(path)
        drift = Drift()
        for batch in self._batches():
            try:
                found = artifact_logits(
                    session, batch.pixels, self._job.preprocessing, self._job.input_kind, self._reference.num_classes
                )
            except ToolError as error:
                raise ToolError(f"{path.name}: {error.message}", error.hint) from error
            # Of PyTorch's logits a paired drop needs the largest alone.
            drift.update(classes[expected[drift.n : drift.n + len(found)]], found, batch.labels)
        made = Evaluated(
            excluded_layers=excluded_layers,
            sha256=sha256,
            drop_pp=drift.top1_drop_pp,
            drop_ci95_pp=drift.top1_drop_ci95_pp(),
        )
        others = tuple(item for item in self._state.files if item.excluded_layers != excluded_layers)
        self._save(files=(*others, made))
        return made

    def _in_numbers(self, excluded_layers: Sequence[str]) -> str:
        return f"{len(excluded_layers)} of {len(self._sensitivity.blocks)} blocks left float"

    def _known(self, excluded_layers: tuple[str, ...]) -> Evaluated | None:
        return next((item for item in self._state.files if item.excluded_layers == excluded_layers), None)

    def _batches(self) -> Iterator[Batch]:
        done = 0
        for batch in self._images.batches(self._job.preprocessing, _BATCH):
            yield batch
            done += len(batch.pixels)
            self._tell("advance", done=done, total=len(self._images))

    def _count(self, what: str, new: bool) -> None:
        self._used += 1
        doing = f"Evaluation {self._used} of at most {self._limit.budget} of {self._job.format} {self._precision}"
        self._tell("step", text=f"{doing}: {what}" + ("" if new else ", known already"))

    def _save(self, **changes: Any) -> None:
        self._state = self._state.model_copy(update=changes)
        try:
            write_state(self._state_path, self._state)
        except OSError as error:
            raise ToolError(f"{self._state_path} cannot be written: {error}", "choose another --output") from error

    def _failed(self, best: Trial) -> CheckFailedError:
        limit, name = self._limit, self._job.outputs[self._precision].name
        enough = 1 + largest_cost(len(self._sensitivity.blocks))
        if limit.budget < enough:
            hint = f"give --budget {enough}, which lets the search end; what it has found is kept"
        else:
            hint = "allow a larger --max-drop, calibrate on more images of the task, or export fp16"
        return CheckFailedError(
            f"{name} does not hold --max-drop {limit.max_drop_pp:g}: after {self._used} evaluations of at most "
            f"{limit.budget} the best drop on {len(self._images)} images is {best.drop_pp:.2f} pp, "
            f"with {_told(best.excluded_layers)}",
            hint,
        )


def _told(excluded_layers: Sequence[str]) -> str:
    return f"{', '.join(excluded_layers) or 'nothing'} left float"


def _replace(source: Path, target: Path) -> None:
    """Put a file or a folder in place of one of an earlier candidate."""
    if target.is_dir():  # cannot be renamed over
        shutil.rmtree(target)
    source.replace(target)


def _key(job: Job, limit: AccuracyLimit, precision: str, calibration_sha256: str) -> str:
    """SHA-256 of all that an evaluation depends on, but for the blocks left float."""
    asked = job.model_dump(mode="json", exclude={"weights", "outputs", "calibration", "limit", "states"})
    recipe = RECIPES[job.format, job.target][precision]
    packages = ("torch", *FORMATS[job.format].packages)
    versions = [installed_version(package) for package in packages]
    parts = [
        asked,
        precision,
        {**vars(recipe), "kinds": sorted(recipe.kinds)},
        calibration_sha256,
        limit.data_sha256,
        versions,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
