"""The manifest of a bundle: JSON, checked against this schema whenever it is read."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cloformer_deploy.backends.base import InputKind
from cloformer_deploy.backends.registry import is_known, target_of
from cloformer_deploy.backends.target import ArtifactKey, Target
from cloformer_deploy.backends.tuning import Tuning
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.system.schema import Sha256, Strict
from cloformer_deploy.tasks import TASKS, Scores, takes_sigmoid

MANIFEST_NAME = "manifest.json"
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]
"""A plain file name: a manifest cannot name a file outside its bundle, nor a hidden one."""
Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar | tuple[Scalar, ...], ...]


class Weights(Strict):
    """The weights that the artifacts were made of.

    Attributes:
        name: file name without its ending, or the name of bundled weights.
        sha256: of the file that the user gave.
        file: canonical copy in the bundle.
        file_sha256: of that copy.
    """

    name: str
    sha256: Sha256
    file: FileName
    file_sha256: Sha256


class Interface(Strict):
    """An artifact's input.

    Attributes:
        kind: `tensor` is normalized float32, `image` is RGB 0..255 with the normalization inside.
        batch: batch size.
    """

    kind: InputKind
    batch: Annotated[int, Field(ge=1)] | Literal["dynamic"]


class OutputTensor(Strict):
    """One output of an artifact; a dynamic axis of `shape` is given by its name."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


class Calibration(Strict):
    """The calibration set that a quantized artifact was made with."""

    sha256: Sha256
    n: int
    seed: int


class CalibrationImages(Strict):
    """The images of a calibration set, as `image_digest` of each, so that none of them is used for validation."""

    sha256: Sha256
    images: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")], ...]


class CompiledFile(Strict):
    """The compiled form of an artifact for one NPU: what an application on it loads."""

    path: FileName
    sha256: Sha256
    bytes: int


class NpuCheck(Strict):
    """The answer of an NPU's compiler when a file was exported.

    Attributes:
        device: the NPU, as `--device` takes it.
        compiler: its compiler, with the version.
        left_on_cpu: operators that the NPU does not run.
        simulated: images that its simulator ran; 0 where there is none.
        sqnr_db: of the simulator's outputs against PyTorch's.
        file: the compiled form, where it was asked for.
    """

    device: str
    compiler: str
    left_on_cpu: int
    simulated: int = 0
    sqnr_db: float | None = None
    file: CompiledFile | None = None


class Artifact(Strict):
    """One exported file (or .mlpackage folder).

    Attributes:
        path: file name in the bundle.
        format, precision, target: its kind.
        sha256: `digest` of it.
        bytes: size.
        input: interface of the input.
        outputs: names, shapes and dtypes as the file has them.
        options: the format's own options, such as `ios` or `opset`.
        created_with: versions of the packages that made it.
        calibration: the set that its ranges were measured on; None without one.
        excluded_layers: modules that an accuracy limit or an exclusion file kept out of 8 bits, beside the recipe's.
        tuning: choices of `tune` that it was made with; None if those of its target.
        npus: what compilers of its NPUs said of it; None if it is for no NPU, empty if it is unverified because they
            were not installed.
    """

    path: FileName
    format: str
    precision: str
    target: str
    sha256: Sha256
    bytes: int
    input: Interface
    outputs: tuple[OutputTensor, ...]
    options: Mapping[str, Scalar]
    created_with: Mapping[str, str]
    calibration: Calibration | None = None
    excluded_layers: tuple[str, ...] = ()
    tuning: Tuning | None = None
    npus: tuple[NpuCheck, ...] | None = None

    @property
    def key(self) -> ArtifactKey:
        """Its kind; a bundle has at most one artifact of each."""
        return ArtifactKey(self.format, self.precision, self.target)

    @property
    def tuned_target(self) -> Target:
        """Its target, with its own tuning."""
        return target_of(self.format, self.target).tuned(self.precision, self.tuning)

    @property
    def files(self) -> Mapping[str, str]:
        """The checksum of the artifact and of each of its compiled forms, by path."""
        compiled = (check.file for check in self.npus or ())
        return {self.path: self.sha256, **{item.path: item.sha256 for item in compiled if item is not None}}


class Manifest(Strict):
    """The contents of a bundle.

    Attributes:
        schema_version: of this schema.
        tool_version: version that wrote the manifest last.
        task: key of `tasks.TASKS`.
        scores: what turns a classifier's logits into scores.
        network: key of `networks.NETWORKS`.
        variant: name of the network's configuration.
        architecture: the configuration under its published keys.
        assumed: what the weights did not say and the export assumed.
        labels: names of the classes, if known.
        weights: what the artifacts were made of.
        preprocessing: input size and normalization.
        artifacts: sorted by kind.
        calibrations: images of the calibration sets that artifacts were made with.
    """

    schema_version: Literal[2]
    tool_version: str
    task: str
    scores: Scores = "softmax"
    network: str
    variant: str
    architecture: Mapping[str, Value]
    assumed: tuple[str, ...] = ()
    labels: tuple[str, ...] | None
    weights: Weights
    preprocessing: Preprocessing
    artifacts: tuple[Artifact, ...] = ()
    calibrations: tuple[CalibrationImages, ...] = ()

    @property
    def num_classes(self) -> int:
        """Outputs of the head."""
        return int(str(self.architecture["num_classes"]))

    @property
    def answers(self) -> tuple[str, ...] | None:
        """Names of a classifier's answers, or None: its labels; with one logit also the negative answer, first."""
        if self.labels is None or self.num_classes > 1:
            return self.labels
        return (f"not {self.labels[0]}", *self.labels)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for item in self.artifacts:
            if not is_known(item.key):
                raise ValueError(f"unknown kind of artifact: {item.format} {item.precision} for {item.target}")
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}")
        if self.scores == "sigmoid" and not takes_sigmoid(self.task):
            raise ValueError(f"scores of the task {self.task!r} are no sigmoid's")
        if self.network not in NETWORKS:
            raise ValueError(f"unknown network {self.network!r}")
        NETWORKS[self.network].check(self.variant, self.architecture)
        if self.labels is None and (self.num_classes == 0) != (self.task in ("features", "tensors")):
            raise ValueError(f"{self.num_classes} classes do not fit the task {self.task!r}")
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise ValueError(f"{len(self.labels)} labels for {self.num_classes} classes")
        names = [MANIFEST_NAME, self.weights.file, *(name for artifact in self.artifacts for name in artifact.files)]
        if len(set(names)) != len(names):
            raise ValueError("a file is listed twice")
        return self


def weights_name(file_sha256: str, suffix: str = ".safetensors") -> str:
    """Return the name of the copy of the weights: after its checksum, so that no copy replaces one still listed."""
    return f"weights-{file_sha256[:12]}{suffix}"


def artifact_name(variant: str, precision: str, target: str, default_target: str, suffix: str) -> str:
    """Return `cloformer_{variant}-{precision}{suffix}`, with `-{target}` before the suffix if it is not the default."""
    return f"cloformer_{variant}-{precision}" + ("" if target == default_target else f"-{target}") + suffix
