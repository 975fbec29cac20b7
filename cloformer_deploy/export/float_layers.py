"""A recipe file: the layers of one artifact that stay float. `blame` writes it, `export` takes it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloformer_deploy.bundle.manifest import Sha256
from cloformer_deploy.errors import RequestError
from cloformer_deploy.quantization.recipes import RECIPES
from cloformer_deploy.system.files import replaced

ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\$?$", max_length=200)]


class ExcludedLayers(BaseModel):
    """Of one artifact.

    Attributes:
        weights_sha256: of the file that the weights came from, as in the manifest.
        format: the artifact's.
        target: likewise.
        precision: likewise; one whose activations become integers.
        excluded_layers: module names; one that ends in `$` is its own operators alone, without those of inner modules.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    weights_sha256: Sha256
    format: str
    target: str
    precision: str
    excluded_layers: Annotated[tuple[ModuleName, ...], Field(min_length=1, max_length=1000)]


def read_excluded_layers(path: Path) -> ExcludedLayers:
    """Read and check a recipe file.

    Raises:
        RequestError: it cannot be read, or is none.
    """
    try:
        return ExcludedLayers.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}", "give a file that blame --fix wrote") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"{path} is no recipe: {place + ': ' if place else ''}{first['msg']}"
        raise RequestError(message, "give a file that blame --fix wrote") from error


def check_unfit(
    recipe: ExcludedLayers, name: str, weights_sha256: str, targets: Mapping[str, str], precisions: Collection[str]
) -> None:
    """Make sure that a recipe file is of these weights, and of one of the artifacts that are asked for.

    Args:
        recipe: what it says.
        name: what it is called in the error.
        weights_sha256: of the weights.
        targets: by format.
        precisions: of each format.

    Raises:
        RequestError: it is not.
    """
    if recipe.weights_sha256 != weights_sha256:
        raise RequestError(
            f"{name} is for other weights ({recipe.weights_sha256[:12]}) than these ({weights_sha256[:12]})",
            "run blame --fix on a file of these weights",
        )
    if targets.get(recipe.format) != recipe.target or recipe.precision not in precisions:
        wanted = f"--format {recipe.format} --target {recipe.target} --precision {recipe.precision}"
        raise RequestError(f"{name} is for no file that is asked for", f"add {wanted}, or leave it out")
    known = RECIPES[recipe.format, recipe.target].get(recipe.precision)
    if known is None or not known.needs_calibration:
        raise RequestError(
            f"{name} is for {recipe.precision}, whose activations are float anyway", "leave --recipe out"
        )


def write_excluded_layers(path: Path, recipe: ExcludedLayers) -> None:
    """Write a recipe file, whole or not at all; one that is there is replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    with replaced(path) as staged:
        staged.write_text(recipe.model_dump_json(indent=2) + "\n")
