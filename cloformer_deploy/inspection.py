"""What a file holds, what it costs, and how its runtime takes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloformer_deploy.data import Preprocessing, probe_pictures
from cloformer_deploy.errors import CloformerDeployError
from cloformer_deploy.formats import Description, format_of
from cloformer_deploy.formats.base import INPUT_NAME
from cloformer_deploy.runtimes.xnnpack import Placement, placement

if TYPE_CHECKING:
    from cloformer_deploy.runtimes.coreml_interpreter import Float16Hazards

HAZARD_PICTURES = 4


@dataclass(frozen=True)
class Inspection:
    """A file's description, and what was seen in its runtime: None where that does not apply or cannot be.

    Attributes:
        description: what the file says of itself.
        xnnpack: of a TFLite file, what XNNPACK takes of it.
        float16: of a Core ML file this tool wrote, what is unsafe in float16, on rendered pictures.
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
    from cloformer_deploy.runtimes.coreml_interpreter import Program, float16_hazards

    preprocessing = Preprocessing.model_validate(description.metadata["preprocessing"])
    program = Program.load(path)
    (image,) = program.package.inputs
    batch = image.shape[0]
    pixels = probe_pictures(max(HAZARD_PICTURES, batch), preprocessing)
    pictures = pixels if image.kind == "image" else preprocessing.normalise(pixels)
    starts = range(0, len(pictures) - batch + 1, batch)
    return float16_hazards(program, ({INPUT_NAME: pictures[start : start + batch]} for start in starts))
