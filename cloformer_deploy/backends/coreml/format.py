"""Write Core ML packages: an ML program from torch.export, by coremltools."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from cloformer_deploy import __version__
from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.base import (
    CATEGORY_NAME,
    INPUT_NAME,
    ExportSpec,
    Runtime,
    Suppression,
    TensorReader,
)
from cloformer_deploy.backends.coreml.runtime import CoreML, CoreMLInterpreter
from cloformer_deploy.backends.coreml.targets import TARGETS
from cloformer_deploy.backends.description import Description, Section
from cloformer_deploy.backends.device_opener import Opener
from cloformer_deploy.backends.target import FLOATS, Target
from cloformer_deploy.errors import RequestError
from cloformer_deploy.progress import Progress
from cloformer_deploy.quantization.recipes import Recipe
from cloformer_deploy.system.packages import hidden

if TYPE_CHECKING:
    from torch import nn

    from cloformer_deploy.backends.coreml.options import CoreMLOptions
    from cloformer_deploy.backends.options import Options

IOS_OF_WEIGHTS = 16
IOS_OF_ACTIVATIONS = 17
"""First iOS versions with the operations constexpr_affine_dequantize and constexpr_lut_to_dense, and quantize."""
COMPUTE_UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")
CLASS_LABEL_NAME = "classLabel"
PROBABILITIES_NAME = "probabilities"
"""Name inside the program; the file's interface has them as `classLabel_probs`, a dictionary by label."""
PREVIEW = "com.apple.coreml.model.preview"
"""Beginning of the keys of Xcode's preview."""
FOREIGN = (
    "sklearn",
    "libsvm",
    "xgboost",
    "tensorflow",
    "torchvision",
    "torchaudio",
    "executorch",
    "torchao",
    "transformers",
)
"""Modules that coremltools imports where they are installed, for models that are not ours."""
INEXACT_FUSION = "common::fuse_elementwise_to_batchnorm"
"""Turns a scale and shift into a batch_norm of variance 1, which divides by sqrt(1 + 1e-5): 25 dB are lost."""


def lowest_ios(recipe: Recipe) -> int:
    """Return the first iOS version that runs files of a recipe."""
    return IOS_OF_ACTIVATIONS if recipe.needs_calibration else IOS_OF_WEIGHTS


class CoreMLBackend:
    """See `Backend`."""

    name = "coreml"
    suffix = ".mlpackage"
    extra = "coreml"
    packages: tuple[str, ...] = ("coremltools",)
    modules: tuple[str, ...] = ("coremltools",)
    conversion_s = 15
    image_colors: tuple[str, ...] = ("RGB",)
    input_layout: Literal["NCHW", "NHWC"] = "NCHW"
    targets = TARGETS
    dynamic_batch = False
    category_map = True
    suppression: Suppression | None = Suppression(("confidence", "coordinates"), best_class=True)
    graph_keys = None
    runtimes: Sequence[Runtime] = (CoreML(), CoreMLInterpreter())
    opener = Opener(
        Path(__file__).with_name("opener.py"), ("coremltools",), "numpy coremltools", COMPUTE_UNITS, system="Darwin"
    )

    @property
    def options(self) -> type["CoreMLOptions"]:
        """See `Backend.options`."""
        from cloformer_deploy.backends.coreml.options import CoreMLOptions

        return CoreMLOptions

    def check(
        self, options: "Options", target: Target, precisions: Sequence[str], input_kind: str, batch: int | None
    ) -> None:
        """See `Backend.check`."""
        ios = cast("CoreMLOptions", options).ios
        for precision in precisions:
            recipe = target.recipes.get(precision)
            if recipe is not None and ios < lowest_ios(recipe):
                raise RequestError(
                    f"iOS {ios} has no operators for Core ML {precision}",
                    f"use --ios {lowest_ios(recipe)} or later, or choose from {', '.join(FLOATS)}",
                )
        if input_kind == "image" and batch != 1:
            raise RequestError(
                f"a Core ML image input holds one image, not {batch}", "use --batch 1, or --input tensor"
            )

    def convert(self, spec: ExportSpec, paths: Mapping[str, Path], progress: Progress) -> Iterator[str]:
        """See `Backend.convert`."""
        import torch

        from cloformer_deploy.backends.coreml.detections import with_suppression
        from cloformer_deploy.backends.coreml.quantize import quantized

        with hidden(*FOREIGN):
            import coremltools  # noqa: F401 - what imports it afterwards is quick

        # torch.jit.trace would do, but fails inside coremltools with numpy >= 2.4.
        module, interface = _interface(spec)
        traced = torch.export.export(module, (torch.zeros(spec.shape),)).run_decompositions({})
        for precision, path in paths.items():
            model = _model(traced, interface, spec, precision)
            clipped: Mapping[str, float] = {}
            if spec.quantized is not None:
                model, clipped = quantized(model, spec, spec.quantized)
            if spec.has_detections:
                model = with_suppression(model, spec.labels)
            _describe(model, spec, precision)
            model.user_defined_metadata.update(metadata.prefixed(spec, precision, clipped))
            model.save(str(path))
            # Conversions from torch.export leave it behind; nothing on a device reads it.
            path.joinpath("executorch_debug_handle_mapping.json").unlink(missing_ok=True)
            yield precision

    def describe(self, path: Path) -> Description:
        """See `Backend.describe`."""
        from cloformer_deploy.backends.coreml.describe import describe

        return describe(path)

    def inspect(self, path: Path, description: Description) -> Sequence[Section]:
        """See `Backend.inspect`: hazards of float16, for files of this tool."""
        from cloformer_deploy.backends.coreml.hazards import hazards

        return (hazards(path, description),) if "preprocessing" in description.metadata else ()

    def open_tensors(self, path: Path) -> TensorReader:
        """See `Backend.open_tensors`."""
        from cloformer_deploy.backends.coreml.tensors import open_tensors

        return open_tensors(path)

    def weight_differences(self, path: Path, lowered: "nn.Module") -> list[str]:
        """See `Backend.weight_differences`."""
        from cloformer_deploy.backends.coreml.interpreter import Program, compare_weights

        expected = {name: value.numpy() for name, value in lowered.state_dict().items() if value.is_floating_point()}
        return compare_weights(Program.load(path), expected)


def _describe(model: Any, spec: ExportSpec, precision: str) -> None:
    """Say in a model what it is, and what its inputs and outputs are."""
    from cloformer_deploy.backends.coreml import detections

    model.short_description = f"{spec.title}, {precision}"
    model.author = "cloformer-deploy"
    model.version = __version__
    pixels = "RGB, 0..255" if spec.input_kind == "image" else "RGB, normalized, NCHW"
    model.input_description[INPUT_NAME] = pixels
    if spec.has_detections:
        detections.describe(model)
        return
    for output in spec.outputs:
        model.output_description[output.name] = output.description
    if spec.has_category:
        model.output_description[CATEGORY_NAME] = "class of each pixel of the image"
        model.user_defined_metadata.update(_preview(spec.labels or ()))


def _model(traced: Any, interface: Mapping[str, Any], spec: ExportSpec, precision: str) -> Any:
    """Convert in two steps: to coremltools' own program, then to a model.

    In one step coremltools cannot declare the names and dtypes of a classifier's outputs: its classify operation adds
    an output to those declared, and the count no longer matches.
    """
    import coremltools as ct

    target = getattr(ct.target, f"iOS{cast('CoreMLOptions', spec.options).ios}")
    program = ct.convert(
        traced,
        **interface,
        convert_to="milinternal",
        minimum_deployment_target=target,
        pass_pipeline=_exact_passes(),
        compute_precision=ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32,
    )
    program.functions["main"].output_types = None
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        pass_pipeline=ct.PassPipeline.CLEANUP,  # the first step has run all others
        # The first step has inserted the casts; FLOAT32 adds none.
        compute_precision=ct.precision.FLOAT32,
        classifier_config=_classifier(spec),
        skip_model_load=True,
    )


def _exact_passes() -> Any:
    """Return coremltools' default passes without the inexact one. A conversion changes the object: it is made anew."""
    import coremltools as ct

    passes = ct.PassPipeline.DEFAULT
    passes.remove_passes([INEXACT_FUSION])
    return passes


def _interface(spec: ExportSpec) -> tuple["nn.Module", dict[str, Any]]:
    """Return the module to trace, and the inputs and outputs that coremltools shall declare."""
    import coremltools as ct
    import numpy as np

    from cloformer_deploy.backends.coreml.detections import CELLS, ForVision
    from cloformer_deploy.backends.interface import WithProbabilities, with_interface

    module = with_interface(spec)
    outputs = [ct.TensorType(name=output.name, dtype=np.float32) for output in spec.outputs]
    if spec.has_category:
        outputs.append(ct.TensorType(name=CATEGORY_NAME, dtype=np.int32))
    if spec.input_kind == "tensor":
        return module, {
            "inputs": [ct.TensorType(name=INPUT_NAME, shape=spec.shape, dtype=np.float32)],
            "outputs": outputs,
        }
    if _is_classifier(spec):
        names = [output.name for output in spec.outputs]
        module = WithProbabilities(module, names.index(str(spec.class_logits)), spec.scores).eval()
        outputs.append(ct.TensorType(name=PROBABILITIES_NAME, dtype=np.float32))
    if spec.has_detections:
        module = ForVision(module).eval()
        outputs = [ct.TensorType(name=name, dtype=np.float32) for name in CELLS]
    image = ct.ImageType(name=INPUT_NAME, shape=spec.shape, color_layout=ct.colorlayout.RGB)
    return module, {"inputs": [image], "outputs": outputs}


def _preview(labels: Sequence[str]) -> dict[str, str]:
    """Return the metadata by which Xcode previews a segmenter: names and colors of its classes; nothing without names.

    See https://apple.github.io/coremltools/docs-guides/source/xcode-model-preview-types.html
    """
    from cloformer_deploy.data.masks import palette

    if not labels:
        return {}
    colors = [f"#{red:02X}{green:02X}{blue:02X}" for red, green, blue in palette()[: len(labels)].tolist()]
    parameters = json.dumps({"labels": list(labels), "colors": colors}, ensure_ascii=False)
    return {f"{PREVIEW}.type": "imageSegmenter", f"{PREVIEW}.params": parameters}


def _is_classifier(spec: ExportSpec) -> bool:
    """Tell whether the file becomes a classifier: Xcode's preview and Vision need an image input and named classes."""
    return spec.input_kind == "image" and spec.labels is not None and spec.class_logits is not None


def _classifier(spec: ExportSpec) -> Any:
    import coremltools as ct

    if not _is_classifier(spec):
        return None
    return ct.ClassifierConfig(
        list(spec.labels or ()),
        predicted_feature_name=CLASS_LABEL_NAME,
        predicted_probabilities_output=PROBABILITIES_NAME,
    )
