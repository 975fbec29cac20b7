"""The manifest: what a bundle says it holds. JSON, checked against this schema whenever it is read."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloformer_deploy.backends.base import InputKind
from cloformer_deploy.backends.registry import FORMATS, PRECISIONS
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.networks.cloformer import VARIANTS

MANIFEST_NAME = "manifest.json"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A plain name: a manifest never leads out of its bundle, nor to a hidden file.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Weights(_Part):
    """`sha256` is of the file the user gave, `file_sha256` of the canonical copy `file` in the bundle."""

    name: str
    sha256: Sha256
    file: FileName
    file_sha256: Sha256


class Interface(_Part):
    """An artifact's input: `tensor` is normalized float32, `image` RGB 0..255 with the normalization inside."""

    kind: InputKind
    batch: Annotated[int, Field(ge=1)] | Literal["dynamic"]


class Calibration(_Part):
    """The calibration set a quantized artifact was made with."""

    sha256: Sha256
    n: int
    seed: int


class CalibrationImages(_Part):
    """Which images a calibration set had, so that none of them is validated on: `image_digest` of each."""

    sha256: Sha256
    images: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")], ...]


class Artifact(_Part):
    """One exported file (or .mlpackage folder); `sha256` is `digest` of it.

    `excluded_layers` names what an accuracy limit or a recipe file kept out of its integers (see
    `quantization.sensitivity.exclusion_pattern`).
    """

    path: FileName
    format: str
    precision: str
    target: str
    sha256: Sha256
    bytes: int
    input: Interface
    created_with: Mapping[str, str]
    calibration: Calibration | None = None
    excluded_layers: tuple[str, ...] = ()


class Manifest(_Part):
    """What a bundle holds."""

    schema_version: Literal[1]
    tool_version: str
    variant: str
    num_classes: Annotated[int, Field(ge=1)]
    labels: tuple[str, ...] | None
    weights: Weights
    input: Preprocessing
    artifacts: tuple[Artifact, ...] = ()
    calibrations: tuple[CalibrationImages, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for item in self.artifacts:
            known = FORMATS.get(item.format)
            if known is None or item.precision not in PRECISIONS or item.target not in known.targets:
                raise ValueError(f"unknown kind of artifact: {item.format} {item.precision} for {item.target}")
        if self.variant not in VARIANTS:
            raise ValueError(f"unknown variant {self.variant!r}")
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise ValueError(f"{len(self.labels)} labels for {self.num_classes} classes")
        names = [MANIFEST_NAME, self.weights.file, *(artifact.path for artifact in self.artifacts)]
        if len(set(names)) != len(names):
            raise ValueError("a file is listed twice")
        return self


def weights_name(file_sha256: str) -> str:
    """The name of the copy of the weights: of its own checksum, so that a new copy never replaces one still listed."""
    return f"weights-{file_sha256[:12]}.safetensors"


def artifact_name(variant: str, precision: str, target: str, default_target: str, suffix: str) -> str:
    """`cloformer_{variant}-{precision}{suffix}`, with `-{target}` before the suffix where it is not the default."""
    return f"cloformer_{variant}-{precision}" + ("" if target == default_target else f"-{target}") + suffix
