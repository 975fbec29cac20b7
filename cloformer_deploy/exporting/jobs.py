"""Conversions as jobs: what a process of its own is asked for (`running.py`), and what it answers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from cloformer_deploy.backends.base import InputKind
from cloformer_deploy.backends.registry import BACKENDS, recipe_of, target_of
from cloformer_deploy.backends.target import ArtifactKey, Target
from cloformer_deploy.backends.tuning import Tuning
from cloformer_deploy.bundle.manifest import Manifest, NpuCheck, Scalar
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.system.schema import AnyPath, Strict
from cloformer_deploy.tasks import Scores, task_of

_OF_MANIFEST = ("network", "variant", "architecture", "task", "scores", "labels", "preprocessing")


class AccuracyLimit(Strict):
    """A limit on the drop of the task's metric, for each quantized file of a job.

    Attributes:
        max_drop_pp: largest drop, percentage points.
        budget: evaluations that the search for one file may use.
        data: labeled images.
        data_sha256: of their targets and pixels.
        workers: run the images, see `validation.workers.workers_of`; None is the job's own process.
    """

    max_drop_pp: float
    budget: int
    data: AnyPath
    data_sha256: str
    workers: str | None = None


class Source(Strict):
    """The origin of files: the canonical copy of the weights, and the manifest's facts about it.

    Attributes:
        weights: path of the copy, made by this process or checked against its manifest.
    """

    weights: AnyPath
    weights_name: str
    weights_sha256: str
    tool_version: str
    network: str
    variant: str
    architecture: Mapping[str, Any]
    task: str
    scores: Scores
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing

    @property
    def num_classes(self) -> int:
        """Outputs of the head."""
        return int(self.architecture["num_classes"])

    @classmethod
    def of(cls, manifest: Manifest, weights: Path) -> "Source":
        """Return the source that a manifest describes."""
        return cls(
            weights=weights,
            weights_name=manifest.weights.name,
            weights_sha256=manifest.weights.sha256,
            tool_version=manifest.tool_version,
            **{name: getattr(manifest, name) for name in _OF_MANIFEST},
        )

    def metadata(self, target: str) -> dict[str, str]:
        """Return the metadata of each file; see `backends.metadata`."""
        return {
            "tool_version": self.tool_version,
            "task": self.task,
            "scores": self.scores,
            "variant": self.variant,
            "target": target,
            "weights_name": self.weights_name,
            "weights_sha256": self.weights_sha256,
            "labels": json.dumps(self.labels, ensure_ascii=False),
            "preprocessing": self.preprocessing.model_dump_json(),
        }


class Job(Strict):
    """Conversion of one source to one format, in one or more precisions.

    Attributes:
        source: what the files are made of.
        format: key of `backends.registry.BACKENDS`.
        target: one of the format's targets.
        paths: file to write for each precision.
        input_kind: see `backends.base.ExportSpec`.
        batch: batch size; None is dynamic.
        options: the format's own, as they were asked for; None leaves the choice to each file.
        calibration: file that `calibrate` wrote; None is the bundled set, if any is needed.
        bundled: key of that set in `data.calibration.BUNDLED`.
        limit: accuracy limit of the quantized files; None is no limit.
        states: file for each precision in which its accuracy search keeps what it has found.
        excluded_layers: for each precision, modules that stay float beside the recipe's.
        measured: file of a `quantization.measured.Measured` of these weights on this calibration set; None measures.
        measures_for: the kinds of files that this job measures for beside its own, and for which it writes `measured`;
            of jobs that run together one has some, and the others read the file.
        measuring_threads: threads that it measures with, while the others wait.
        tunings: for each precision that has one, choices in place of the target's own.
        compile_for: NPUs whose compiled forms are kept.
        modules: modules that register the format, the network and the task; the worker imports them.
    """

    source: Source
    format: str
    target: str
    paths: dict[str, AnyPath]
    input_kind: InputKind
    batch: int | None
    options: dict[str, Scalar | None]
    calibration: AnyPath | None = None
    bundled: str | None = None
    limit: AccuracyLimit | None = None
    states: dict[str, AnyPath] = Field(default_factory=dict)
    excluded_layers: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    measured: AnyPath | None = None
    measures_for: tuple[ArtifactKey, ...] = ()
    measuring_threads: int = 1
    tunings: dict[str, Tuning] = Field(default_factory=dict)
    compile_for: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    @property
    def calibrated(self) -> tuple[str, ...]:
        """Precisions whose activations become integers."""
        target = target_of(self.format, self.target)
        return tuple(precision for precision in self.paths if target.calibrated(precision))

    def key(self, precision: str) -> ArtifactKey:
        """Return the kind of one of its files."""
        return ArtifactKey(self.format, precision, self.target)

    def target_for(self, precision: str) -> Target:
        """Return the target of one of its files, tuned."""
        return target_of(self.format, self.target).tuned(precision, self.tunings.get(precision))

    def settled_options(self, precision: str, *, wide: bool) -> dict[str, Scalar]:
        """Return the options of one of its files, with or without operators of the recipe's `excluded_bits`."""
        options = BACKENDS[self.format].options.model_validate(self.options)
        return options.settled(recipe_of(self.key(precision)), wide=wide).model_dump()


def registering_modules(format_name: str, source: Source) -> tuple[str, ...]:
    """Return the modules that define a format, a network and a task, wherever they were registered from."""
    entries = (BACKENDS[format_name], NETWORKS[source.network], task_of(source))
    return tuple(dict.fromkeys(type(entry).__module__ for entry in entries))


class Accuracy(Strict):
    """Result of the accuracy search for one file; the drop is paired, on `n` labeled images."""

    max_drop_pp: float
    metric: str
    drop_pp: float
    drop_ci95_pp: tuple[float, float]
    n: int
    evaluations: int
    budget: int
    excluded_layers: tuple[str, ...]


class Check(Strict):
    """Distance of a written file from PyTorch, on a few images on which it was run.

    Attributes:
        wide: some of its operators have the recipe's `excluded_bits`.
        npus: what compilers of NPUs said of it; None if it is for none, empty if they are not installed.
        accuracy: of a file that was searched for under a limit.
    """

    precision: str
    runtime: str
    n: int
    max_abs_diff: float
    sqnr_db: float
    wide: bool = False
    npus: tuple[NpuCheck, ...] | None = None
    accuracy: Accuracy | None = None
