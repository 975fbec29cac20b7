"""The calibration set that ships: its recipe, from which it is made again, and a manifest to hold it against."""

import hashlib
from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cloformer_deploy.data.preprocessing import Preprocessing
from cloformer_deploy.data.rendered import CLASSES, SIZE, VERSION, RenderedPictures
from cloformer_deploy.packages import shipped_folder

_BATCH = 16


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Recipe(_Part):
    """Pictures of the rendered task's calibration split: `count` from index `seed * count` on.

    Neighbouring pictures are of different classes, so that no class has two pictures more than another.
    """

    task: Literal["rendered"] = "rendered"
    version: Annotated[int, Field(ge=VERSION, le=VERSION)] = VERSION
    count: Annotated[int, Field(ge=len(CLASSES))]
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def pictures(self) -> RenderedPictures:
        """The pictures, rendered as they are asked for."""
        return RenderedPictures("calibration", range(self.seed * self.count, (self.seed + 1) * self.count))


class PixelManifest(_Part):
    """`sha256` is of the pixels that quantisation sees: RGB uint8, (n, 3, height, width), in order."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    n: Annotated[int, Field(ge=1)]
    seed: int
    preprocessing: Preprocessing


class CalibrationSet(_Part):
    """A recipe and what it gave."""

    schema_version: Literal[1] = 1
    recipe: Recipe
    manifest: PixelManifest


def measured(recipe: Recipe) -> CalibrationSet:
    """Make the pictures of a recipe, at their own size, and write their manifest."""
    preprocessing = Preprocessing.published(SIZE, SIZE)
    digest = hashlib.sha256()
    for batch in recipe.pictures.batches(preprocessing, _BATCH):
        digest.update(batch.pixels.tobytes())
    manifest = PixelManifest(sha256=digest.hexdigest(), n=recipe.count, seed=recipe.seed, preprocessing=preprocessing)
    return CalibrationSet(recipe=recipe, manifest=manifest)


@cache
def default_calibration() -> CalibrationSet:
    """The set that ships in `calibration/`, for the bundled weights of the rendered task."""
    return CalibrationSet.model_validate_json((shipped_folder("calibration") / "rendered.json").read_bytes())
