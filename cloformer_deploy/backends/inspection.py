"""What a file holds, what it costs, and how its runtime takes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloformer_deploy.backends.base import INPUT_NAME, Description
from cloformer_deploy.backends.registry import format_of
from cloformer_deploy.backends.tflite.placement import Placement, placement
from cloformer_deploy.data import Preprocessing, probe_images
from cloformer_deploy.errors import CloformerDeployError

if TYPE_CHECKING:
    from cloformer_deploy.backends.coreml.interpreter import Float16Hazards

HAZARD_IMAGES = 4


@dataclass(frozen=True)
class Inspection:
    """A file's description, and what was seen in its runtime: None where that does not apply or cannot be.

    Attributes:
        description: what the file says of itself.
        xnnpack: of a TFLite file, what XNNPACK takes of it.
        float16: of a Core ML file this tool wrote, what is unsafe in float16, on rendered images.
        problem: why something that applies is not known.
    """

    description: Description
    xnnpack: Placement | None = None
    float16: "Float16Hazards | None" = None
    problem: str | None = None


def inspect(path: Path) -> Inspection:
    """Read a file, and prepare (TFLite) or run (Core ML) it.

    Raises:
        BundleError: the file is damaged, or of no known format.
        MissingPartError: the package that reads it is not installed.
    """
    description = format_of(path).describe(path)
    try:
        if description.format == "tflite":
            return Inspection(description, xnnpack=placement(path))
        if description.format == "coreml" and "preprocessing" in description.metadata:
            return Inspection(description, float16=_float16_hazards(path, description))
    except (CloformerDeployError, ValueError) as error:  # foreign metadata, a program the interpreter does not know
        return Inspection(description, problem=str(error))
    return Inspection(description)


def _float16_hazards(path: Path, description: Description) -> "Float16Hazards":
    from cloformer_deploy.backends.coreml.interpreter import Program, float16_hazards

    preprocessing = Preprocessing.model_validate(description.metadata["preprocessing"])
    program = Program.load(path)
    (image,) = program.package.inputs
    batch = image.shape[0]
    pixels = probe_images(max(HAZARD_IMAGES, batch), preprocessing)
    images = pixels if image.kind == "image" else preprocessing.normalize(pixels)
    starts = range(0, len(images) - batch + 1, batch)
    return float16_hazards(program, ({INPUT_NAME: images[start : start + batch]} for start in starts))
