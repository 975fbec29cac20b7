"""The baseline: the figures of the last build that was accepted, in a file that is committed beside the code."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cloformer_deploy.bundle.manifest import Artifact, Sha256
from cloformer_deploy.errors import RequestError
from cloformer_deploy.system.files import replaced

Bits = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]
"""One for each image, the first in the highest bit of the first byte."""
ImageId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Accepted(_Part):
    """One artifact's figures; `agrees` and `right` are `pack`ed, the latter None without labels."""

    format: str
    precision: str
    target: str
    sha256: Sha256
    bytes: Annotated[int, Field(gt=0)]
    operators: Annotated[int, Field(gt=0)]
    sqnr_ci95_db: tuple[float, float]
    agrees: Bits
    right: Bits | None

    def is_of(self, artifact: Artifact) -> bool:
        """Whether it is the same kind of artifact."""
        return (self.format, self.precision, self.target) == (artifact.format, artifact.precision, artifact.target)


class Baseline(_Part):
    """All of a build: `images` has an identity of each, in order."""

    schema_version: Literal[1] = 1
    tool_version: str
    weights_sha256: Sha256
    images: tuple[ImageId, ...]
    artifacts: tuple[Accepted, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        size = 2 * -(-len(self.images) // 8)
        for item in self.artifacts:
            if any(bits is not None and len(bits) != size for bits in (item.agrees, item.right)):
                raise ValueError(f"{item.format} {item.precision} is not of {len(self.images)} images")
        return self

    def accepted(self, artifact: Artifact) -> Accepted | None:
        """What was accepted of the same kind of artifact."""
        return next((item for item in self.artifacts if item.is_of(artifact)), None)

    def unpack(self, bits: str) -> NDArray[np.bool_]:
        """One bool for each of `images`."""
        packed = np.frombuffer(bytes.fromhex(bits), np.uint8)
        return np.unpackbits(packed, count=len(self.images)).astype(np.bool_)


def pack(flags: Sequence[NDArray[np.bool_]]) -> str:
    """Flags (B,), batch by batch, as `Bits`."""
    return np.packbits(np.concatenate(flags)).tobytes().hex()


def read_baseline(path: Path) -> Baseline:
    """A baseline from its file.

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
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RequestError(
            f"the baseline {path} is damaged or of another version: {place + ': ' if place else ''}{first['msg']}", hint
        ) from error


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Replace the file at once; whoever reads it has the old one or the new one.

    Raises:
        RequestError: it cannot be written.
    """
    try:
        with replaced(path) as staged:
            staged.write_text(baseline.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise RequestError(
            f"the baseline {path} cannot be written: {error.strerror}", "choose another place"
        ) from error
