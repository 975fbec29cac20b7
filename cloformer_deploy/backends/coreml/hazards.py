"""Inspect a Core ML package for values that float16 cannot hold, by running it on rendered images."""

from dataclasses import asdict
from pathlib import Path

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.description import Description, Section
from cloformer_deploy.data import Preprocessing, probe_images

HAZARD_IMAGES = 4


def hazards(path: Path, description: Description) -> Section:
    """Run a package of this tool on rendered images, and return what is unsafe in float16.

    Raises:
        BundleError, RequestError, ToolError, ValueError: it cannot be run.
    """
    from cloformer_deploy.backends.coreml.interpreter import Program, float16_hazards

    preprocessing = Preprocessing.model_validate(description.metadata["preprocessing"])
    program = Program.load(path)
    (image,) = program.package.inputs
    batch = image.shape[0]
    pixels = probe_images(max(HAZARD_IMAGES, batch), preprocessing)
    images = pixels if image.kind == "image" else preprocessing.normalize(pixels)
    starts = range(0, len(images) - batch + 1, batch)
    found = float16_hazards(program, ({INPUT_NAME: images[start : start + batch]} for start in starts))
    kinds = (
        ("beyond 65504", found.overflows),
        ("constants subnormal", found.subnormal_constants),
        ("sums beyond 65504", found.overflowing_sums),
    )
    return Section(
        "float16",
        asdict(found),
        (
            ("largest value seen", f"{found.largest[0]:,.0f}"),
            ("longest mean or pooling, terms", f"{found.longest_sum:,}"),
            ("largest sum in one", f"{found.largest_sum[0]:,.0f}"),
        ),
        tuple(f"Hazard in float16, {what}: {', '.join(tensors)}" for what, tensors in kinds if tensors),
        () if found.found else (f"No hazard in float16 on {found.images} rendered images.",),
    )
