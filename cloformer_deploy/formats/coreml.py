"""Core ML: an ML program from torch.export, by coremltools."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloformer_deploy import __version__
from cloformer_deploy.formats import metadata
from cloformer_deploy.formats.base import INPUT_NAME, OUTPUT_NAME, PROBABILITIES_NAME, Description, Graph, TensorInfo

if TYPE_CHECKING:
    from torch import nn

IOS_TARGETS = (15, 16, 17, 18, 26)
CLASS_LABEL_NAME = "classLabel"


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

        # torch.jit.trace would do, but fails inside coremltools with numpy >= 2.4.
        module, interface = _interface(graph)
        program = torch.export.export(module, (torch.zeros(graph.shape),)).run_decompositions({})
        for precision, path in outputs.items():
            self._convert_one(program, interface, graph, precision, path)
            yield precision

    def _convert_one(
        self, program: Any, interface: Mapping[str, Any], graph: Graph, precision: str, path: Path
    ) -> None:
        import coremltools as ct

        model = ct.convert(
            program,
            **interface,
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, f"iOS{graph.ios}"),
            compute_precision=ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32,
            skip_model_load=True,
        )
        model.short_description = f"CloFormer-{graph.metadata['variant']} image classifier, {precision}"
        model.author = "cloformer-deploy"
        model.version = __version__
        model.user_defined_metadata.update(metadata.prefixed(graph.metadata, precision))
        model.save(str(path))
        # Left behind by conversions from torch.export; nothing on a device reads it.
        path.joinpath("executorch_debug_handle_mapping.json").unlink(missing_ok=True)

    def describe(self, path: Path) -> Description:
        """See `Format.describe`."""
        from cloformer_deploy.runtimes.coreml_interpreter import Package

        package = Package.load(path)
        stored = metadata.parsed(package.metadata)
        return Description(
            format=self.name,
            precision=stored.get("precision"),
            inputs=tuple(TensorInfo(item.name, item.shape, item.dtype) for item in package.inputs),
            outputs=tuple(TensorInfo(item.name, item.shape, item.dtype) for item in package.outputs),
            operators=package.operators,
            bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
            metadata=stored,
        )


def _interface(graph: Graph) -> tuple["nn.Module", dict[str, Any]]:
    """The module to trace, and the inputs, outputs and classifier that coremltools shall declare."""
    import coremltools as ct

    from cloformer_deploy.formats.interface import WithProbabilities, with_interface

    module = with_interface(graph)
    logits = ct.TensorType(name=OUTPUT_NAME)
    if graph.input_kind == "tensor":
        return module, {"inputs": [ct.TensorType(name=INPUT_NAME, shape=graph.shape)], "outputs": [logits]}
    image = ct.ImageType(name=INPUT_NAME, shape=graph.shape, color_layout=ct.colorlayout.RGB)
    if graph.labels is None:
        return module, {"inputs": [image], "outputs": [logits]}
    return WithProbabilities(module).eval(), {
        "inputs": [image],
        "outputs": [logits, ct.TensorType(name=PROBABILITIES_NAME)],
        "classifier_config": ct.ClassifierConfig(
            list(graph.labels),
            predicted_feature_name=CLASS_LABEL_NAME,
            predicted_probabilities_output=PROBABILITIES_NAME,
        ),
    }
