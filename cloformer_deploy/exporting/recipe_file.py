"""The recipe file: what one artifact is made with in place of its target's own choices.

`blame --write-exclusions` and `tune` write it, `export --recipe` takes it.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from cloformer_deploy.backends.registry import is_known, target_of
from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.backends.tuning import Tuning
from cloformer_deploy.errors import RequestError
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.quantization.alternatives import FLOAT_LAYERS
from cloformer_deploy.quantization.recipes import ALL
from cloformer_deploy.system.files import replaced
from cloformer_deploy.system.schema import Sha256, Strict, first_error

ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\$?$", max_length=200)]
_HINT = "give a file that blame --write-exclusions or tune wrote"


class Measured(Strict):
    """The measurement behind a tuning.

    Attributes:
        device: as `--device` takes it.
        machine: its processor; None where the device does not say.
        runtime: what ran the files, with its version.
        threads: of the runtime.
        speedup: over the file with the target's own choices, measured interleaved.
        speedup_ci95: its 95 % interval.
        rounds: of the measurement.
        versions: of the packages that made the files.
    """

    device: str
    machine: str | None
    runtime: str
    threads: int
    speedup: float
    speedup_ci95: tuple[float, float]
    rounds: int
    versions: Mapping[str, str]


class RecipeFile(Strict):
    """The recipe of one artifact.

    Attributes:
        schema_version: of this file.
        weights_sha256: of the file that the weights came from, as in the manifest.
        format, precision, target: the artifact's kind.
        excluded_layers: modules that are excluded from quantization; one that ends in `$` is its own operators alone,
            without those of inner modules.
        tuning: choices in place of the target's own; None keeps those.
        measured: on the device that `tuning` is for.
    """

    schema_version: Literal[3] = 3
    weights_sha256: Sha256
    format: str
    precision: str
    target: str
    excluded_layers: Annotated[tuple[ModuleName, ...], Field(max_length=1000)] = ()
    tuning: Tuning | None = None
    measured: Measured | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.excluded_layers and self.tuning is None:
            raise ValueError("it neither excludes a layer nor has a tuning")
        if self.tuning is not None:
            check_tuning(self.key, self.tuning)
        return self

    @property
    def key(self) -> ArtifactKey:
        """Kind of the artifact."""
        return ArtifactKey(self.format, self.precision, self.target)


def read_recipe(path: Path) -> RecipeFile:
    """Read and check a recipe file.

    Raises:
        RequestError: it cannot be read, or is none.
    """
    try:
        return RecipeFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}", _HINT) from error
    except ValidationError as error:
        raise RequestError(f"{path} is no recipe file: {first_error(error)}", _HINT) from error


def check_tuning(key: ArtifactKey, tuning: Tuning) -> None:
    """Check that a tuning is made of known choices, so that a foreign file can name no pattern of its own.

    Raises:
        ValueError: it is not.
    """
    if not is_known(key):
        raise ValueError(f"there is no artifact {' '.join(key)}")
    target = target_of(key.format, key.target)
    own = target.tuning(key.precision)
    patterns = {*own.float_layers, *FLOAT_LAYERS.values()}
    rewrites = {*own.rewrites, *(name for item in NETWORKS.values() for name in item.rewrites)}
    for what, names, known in (
        ("rewrite", tuning.rewrites, rewrites),
        ("kind of operator", tuning.kinds, ALL if own.kinds else frozenset[str]()),
        ("pattern of layers", tuning.float_layers, patterns),
    ):
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            raise ValueError(f"unknown {what}: {unknown[:100]!r}")


def check_fit(
    recipe: RecipeFile,
    name: str,
    weights_sha256: str,
    targets: Mapping[str, str],
    precisions: Collection[str],
) -> None:
    """Check that a recipe file is for these weights, and for one of the requested artifacts.

    Args:
        recipe: its contents.
        name: its name in the error.
        weights_sha256: of the weights.
        targets: requested target of each requested format.
        precisions: requested for each format.

    Raises:
        RequestError: it is not.
    """
    if recipe.excluded_layers and recipe.weights_sha256 != weights_sha256:
        raise RequestError(
            f"{name} is for other weights ({recipe.weights_sha256[:12]}) than these ({weights_sha256[:12]})",
            "run blame --write-exclusions on a file of these weights",
        )
    if targets.get(recipe.format) != recipe.target or recipe.precision not in precisions:
        wanted = f"--format {recipe.format} --target {recipe.target} --precision {recipe.precision}"
        raise RequestError(f"{name} is for an artifact that is not asked for", f"add {wanted}, or leave --recipe out")
    if recipe.excluded_layers and not target_of(recipe.format, recipe.target).calibrated(recipe.precision):
        raise RequestError(
            f"{name} is for {recipe.precision}, whose activations are float anyway", "leave --recipe out"
        )


def write_recipe(path: Path, recipe: RecipeFile) -> None:
    """Write a recipe file, whole or not at all; one that is there is replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    with replaced(path) as staged:
        staged.write_text(recipe.model_dump_json(indent=2) + "\n")
