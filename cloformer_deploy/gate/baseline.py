"""The baseline: a file with the results of the last accepted build, to be committed beside the code."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.errors import RequestError
from cloformer_deploy.system.files import replaced
from cloformer_deploy.system.schema import Sha256, Strict, first_error

Packed = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]
"""Evidence of all images (`Task.evidence`), in order, hexadecimal; each image's has the same length."""
ImageId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class BaselineArtifact(Strict):
    """The results of one artifact of the accepted build.

    Attributes:
        format, precision, target: its kind.
        sha256: of the file.
        bytes: size of the file.
        operators: number of operators.
        sqnr_ci95_db: 95 % interval of its SQNR.
        evidence: its evidence of each image.
    """

    format: str
    precision: str
    target: str
    sha256: Sha256
    bytes: Annotated[int, Field(gt=0)]
    operators: Annotated[int, Field(gt=0)]
    sqnr_ci95_db: tuple[float, float]
    evidence: Packed

    @property
    def key(self) -> ArtifactKey:
        """Its kind."""
        return ArtifactKey(self.format, self.precision, self.target)


class Baseline(Strict):
    """The results of a build.

    Attributes:
        schema_version: of this file.
        tool_version: version that wrote it.
        task: of the build.
        weights_sha256: of the weights file.
        images: an identity of each image, in order.
        artifacts: of the build.
    """

    schema_version: Literal[2] = 2
    tool_version: str
    task: str
    weights_sha256: Sha256
    images: tuple[ImageId, ...]
    artifacts: tuple[BaselineArtifact, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for item in self.artifacts:
            if not self.images or len(item.evidence) // 2 % len(self.images) or not item.evidence:
                raise ValueError(f"{item.format} {item.precision} is not of {len(self.images)} images")
        return self

    def artifact(self, key: ArtifactKey) -> BaselineArtifact | None:
        """Return the results of the artifact of a kind; None without one."""
        return next((item for item in self.artifacts if item.key == key), None)

    def evidence(self, item: BaselineArtifact) -> list[bytes]:
        """Return an artifact's evidence of each of `images`."""
        content = bytes.fromhex(item.evidence)
        size = len(content) // len(self.images)
        return [content[start : start + size] for start in range(0, len(content), size)]


def pack(evidence: Sequence[bytes]) -> str:
    """Return the evidence of all images, in order, in the form of `BaselineArtifact.evidence`."""
    return b"".join(evidence).hex()


def read_baseline(path: Path) -> Baseline:
    """Read a baseline from its file.

    Raises:
        RequestError: missing, unreadable or damaged.
    """
    hint = "make it with --update-baseline, or take the committed one"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"the baseline {path} cannot be read: {error.strerror}", hint) from error
    try:
        return Baseline.model_validate_json(content)
    except ValidationError as error:
        message = f"the baseline {path} is damaged or of another version: {first_error(error)}"
        raise RequestError(message, hint) from error


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline to a file, which is replaced atomically.

    Raises:
        RequestError: it cannot be written.
    """
    try:
        with replaced(path) as staged:
            staged.write_text(baseline.model_dump_json(indent=1) + "\n")
    except OSError as error:
        message = f"the baseline {path} cannot be written: {error.strerror}"
        raise RequestError(message, "choose another place") from error
