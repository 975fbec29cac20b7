"""Core ML: an ML program from torch.export, by coremltools."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy import __version__
from cloformer_deploy.backends import metadata
from cloformer_deploy.backends.base import INPUT_NAME, OUTPUT_NAME, Description, Graph, TensorInfo
from cloformer_deploy.errors import BundleError
from cloformer_deploy.quantization.recipes import Recipe

if TYPE_CHECKING:
    from torch import nn

IOS_TARGETS = (15, 16, 17, 18, 26)
IOS_OF_WEIGHTS = 16
IOS_OF_ACTIVATIONS = 17
"""The first iOS that has the operations: constexpr_affine_dequantize and constexpr_lut_to_dense; quantize."""
CLASS_LABEL_NAME = "classLabel"
PROBABILITIES_NAME = "probabilities"
"""Inside the program; the file's interface has them as `classLabel_probs`, a dictionary by label."""
INEXACT_FUSION = "common::fuse_elementwise_to_batchnorm"
"""Turns a scale and shift into a batch_norm of variance 1, and divides by sqrt(1 + 1e-5) on the way: 25 dB lost."""


def lowest_ios(recipe: Recipe) -> int:
    """The first iOS that runs files of a recipe."""
    return IOS_OF_ACTIVATIONS if recipe.needs_calibration else IOS_OF_WEIGHTS


class CoreMLFormat:
    """See `Format`."""

    name = "coreml"
    suffix = ".mlpackage"
    extra = "coreml"
    packages: tuple[str, ...] = ("coremltools",)
    targets: tuple[str, ...] = ("ane",)
    dynamic_batch = False

    def convert(self, graph: Graph, outputs: Mapping[str, Path], note: Callable[[str], None]) -> Iterator[str]:  # noqa: ARG002
        """See `Format.convert`."""
        import torch

        from cloformer_deploy.backends.coreml.quantize import quantized

        # torch.jit.trace would do, but fails inside coremltools with numpy >= 2.4.
        module, interface = _interface(graph)
        traced = torch.export.export(module, (torch.zeros(graph.shape),)).run_decompositions({})
        for precision, path in outputs.items():
            model = _model(traced, interface, graph, precision)
            clipped: Mapping[str, float] = {}
            if graph.quantized is not None:
                model, clipped = quantized(model, graph, graph.quantized)
            model.short_description = f"CloFormer-{graph.metadata['variant']} image classifier, {precision}"
            model.author = "cloformer-deploy"
            pixels = "RGB, 0..255" if graph.input_kind == "image" else "RGB, normalized, NCHW"
            model.input_description[INPUT_NAME] = pixels
            model.output_description[OUTPUT_NAME] = "one value a class, before the softmax"
            model.version = __version__
            model.user_defined_metadata.update(metadata.prefixed(graph, precision, clipped))
            model.save(str(path))
            # Left behind by conversions from torch.export; nothing on a device reads it.
            path.joinpath("executorch_debug_handle_mapping.json").unlink(missing_ok=True)
            yield precision

    def describe(self, path: Path) -> Description:
        """See `Format.describe`."""
        from cloformer_deploy.backends.coreml.describe import integers, summarize
        from cloformer_deploy.backends.coreml.interpreter import Package
        from cloformer_deploy.backends.quantized_tensors import clipped_shares

        try:
            package = Package.load(path)
            package.check_weight_files()
            graph = summarize(package)
            stored = metadata.parsed(package.metadata)
            quantized_tensors = integers(package, clipped_shares(stored))
        except BundleError as error:
            raise BundleError(f"{path}: {error.message}", error.hint) from error
        except (ArithmeticError, LookupError) as error:  # an operation without its inputs, or with others' shapes
            raise BundleError(f"{path} is damaged: {error!r}", "export it again") from error
        return Description(
            format=self.name,
            precision=stored.get("precision"),
            inputs=tuple(TensorInfo(item.name, item.shape, item.dtype) for item in package.inputs),
            outputs=tuple(TensorInfo(item.name, item.shape, item.dtype) for item in package.outputs),
            operators=package.operators,
            graph=graph,
            bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
            metadata=stored,
            quantized=quantized_tensors,
        )


def _model(traced: Any, interface: Mapping[str, Any], graph: Graph, precision: str) -> Any:
    """Convert in two steps: to coremltools' own program, then to a model.

    In one step coremltools cannot declare names and dtypes of a classifier's outputs: its classify op adds an
    output to those declared, and the count no longer matches.
    """
    import coremltools as ct

    target = getattr(ct.target, f"iOS{graph.ios}")
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
        pass_pipeline=_exact_passes(),
        # The first step has put the casts where they belong; FLOAT32 adds none.
        compute_precision=ct.precision.FLOAT32,
        classifier_config=_classifier(graph),
        skip_model_load=True,
    )


def _exact_passes() -> Any:
    """Coremltools' default passes but the inexact one. A new object each time: a conversion leaves its mark on it."""
    import coremltools as ct

    passes = ct.PassPipeline.DEFAULT
    passes.remove_passes([INEXACT_FUSION])
    return passes


def _interface(graph: Graph) -> tuple["nn.Module", dict[str, Any]]:
    """The module to trace, and the inputs and outputs that coremltools shall declare."""
    import coremltools as ct
    import numpy as np

    from cloformer_deploy.backends.interface import WithProbabilities, with_interface

    module = with_interface(graph)
    outputs = [ct.TensorType(name=OUTPUT_NAME, dtype=np.float32)]
    if graph.input_kind == "tensor":
        return module, {
            "inputs": [ct.TensorType(name=INPUT_NAME, shape=graph.shape, dtype=np.float32)],
            "outputs": outputs,
        }
    if _is_classifier(graph):
        module = WithProbabilities(module).eval()
        outputs.append(ct.TensorType(name=PROBABILITIES_NAME, dtype=np.float32))
    image = ct.ImageType(name=INPUT_NAME, shape=graph.shape, color_layout=ct.colorlayout.RGB)
    return module, {"inputs": [image], "outputs": outputs}


def _is_classifier(graph: Graph) -> bool:
    """Only then do Xcode's preview and Vision have what they need: a image in, named classes out."""
    return graph.input_kind == "image" and graph.labels is not None


def _classifier(graph: Graph) -> Any:
    import coremltools as ct

    if not _is_classifier(graph):
        return None
    return ct.ClassifierConfig(
        list(graph.labels or ()),
        predicted_feature_name=CLASS_LABEL_NAME,
        predicted_probabilities_output=PROBABILITIES_NAME,
    )
