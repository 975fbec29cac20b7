"""The exclusion file: layers of one artifact that stay float. `blame` writes it, `export --recipe` takes it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from cloformer_deploy.backends.registry import target_of
from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.errors import RequestError
from cloformer_deploy.system.files import replaced
from cloformer_deploy.system.schema import Sha256, Strict, first_error

ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\$?$", max_length=200)]
_HINT = "give a file that blame --write-exclusions wrote"


class ExcludedLayers(Strict):
    """Layers of one artifact that are excluded from quantization.

    Attributes:
        schema_version: of this file.
        weights_sha256: of the file that the weights came from, as in the manifest.
        format, precision, target: the artifact's kind; its precision has integer activations.
        excluded_layers: module names; one that ends in `$` is its own operators alone, without those of inner modules.
    """

    schema_version: Literal[2] = 2
    weights_sha256: Sha256
    format: str
    precision: str
    target: str
    excluded_layers: Annotated[tuple[ModuleName, ...], Field(min_length=1, max_length=1000)]

    @property
    def key(self) -> ArtifactKey:
        """Kind of the artifact."""
        return ArtifactKey(self.format, self.precision, self.target)


def read_excluded_layers(path: Path) -> ExcludedLayers:
    """Read and check an exclusion file.

    Raises:
        RequestError: it cannot be read, or is none.
    """
    try:
        return ExcludedLayers.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}", _HINT) from error
    except ValidationError as error:
        raise RequestError(f"{path} is no exclusion file: {first_error(error)}", _HINT) from error


def check_fit(
    exclusions: ExcludedLayers,
    name: str,
    weights_sha256: str,
    targets: Mapping[str, str],
    precisions: Collection[str],
) -> None:
    """Check that an exclusion file is for these weights, and for one of the requested artifacts.

    Args:
        exclusions: its contents.
        name: its name in the error.
        weights_sha256: of the weights.
        targets: requested target of each requested format.
        precisions: requested for each format.

    Raises:
        RequestError: it is not.
    """
    if exclusions.weights_sha256 != weights_sha256:
        raise RequestError(
            f"{name} is for other weights ({exclusions.weights_sha256[:12]}) than these ({weights_sha256[:12]})",
            "run blame --write-exclusions on a file of these weights",
        )
    if targets.get(exclusions.format) != exclusions.target or exclusions.precision not in precisions:
        wanted = f"--format {exclusions.format} --target {exclusions.target} --precision {exclusions.precision}"
        raise RequestError(f"{name} is for an artifact that is not asked for", f"add {wanted}, or leave --recipe out")
    if not target_of(exclusions.format, exclusions.target).calibrated(exclusions.precision):
        raise RequestError(
            f"{name} is for {exclusions.precision}, whose activations are float anyway", "leave --recipe out"
        )


def write_excluded_layers(path: Path, exclusions: ExcludedLayers) -> None:
    """Write an exclusion file, whole or not at all; one that is there is replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    with replaced(path) as staged:
        staged.write_text(exclusions.model_dump_json(indent=2) + "\n")
