"""Quantize Core ML programs: a float32 program is rewritten, and everything that stays float becomes float16.

Core ML computes a convolution in integers where its weights are int8 and its input comes from a pair of quantize and
dequantize (Neural Engine of A17 Pro, M4 and later); its output needs no pair, and one would cost 1 to 2 dB. The Neural
Engine takes no float32, so nothing stays float32 inside; weights are rounded before, so that their integers are those
of the float32 weights.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cloformer_deploy.backends.base import ExportSpec
from cloformer_deploy.backends.coreml.palettes import palette
from cloformer_deploy.errors import ToolError

if TYPE_CHECKING:
    from cloformer_deploy.quantization.observers import Range
    from cloformer_deploy.quantization.plan import Plan
    from cloformer_deploy.quantization.preparation import Prepared
    from cloformer_deploy.quantization.recipes import Recipe

_QUANTIZED = "_quantized"
_WEIGHTED = ("conv", "linear")
SMALLEST_PALETTE = 2048
"""Elements of a tensor; below, its table takes more than it saves."""
SMALLEST_SCALE = 2.0**-14
"""The smallest normal number of float16; a smaller scale may be taken for 0, by which numbers are then divided."""


def quantized(model: Any, spec: ExportSpec, prepared: "Prepared") -> tuple[Any, dict[str, float]]:
    """Return a quantized copy of a float32 `MLModel` without its metadata, and the clipped shares by tensor name.

    Raises:
        ToolError: an operator of the plan, or a tensor it reads, is not found in the program.
    """
    matches = _match(model, spec, prepared) if prepared.plan.recipe.needs_calibration else {}
    made = quantize(model, prepared.plan, matches)
    return made, _renamed(made, prepared.clipped(matches))


def _renamed(model: Any, shares: Mapping[str, float]) -> dict[str, float]:
    """Return the clipped shares, given by the names in a float32 program, by those of its quantized form."""
    clipped = {}
    for block in model.get_spec().mlProgram.functions["main"].block_specializations.values():
        for operation in block.operations:
            # The float tensor may have become float16 under another name; the pair is still called after it.
            before = operation.outputs[0].name.rpartition(_QUANTIZED)[0] if operation.type == "quantize" else ""
            if before in shares:
                clipped[operation.inputs["input"].arguments[0].name] = shares[before]
    return clipped


def _match(model: Any, spec: ExportSpec, prepared: "Prepared") -> dict[str, str]:
    """Return the plan's tensor that each of the program's tensors corresponds to, found by running both."""
    from cloformer_deploy.backends.coreml.tensors import CoreMLTensors
    from cloformer_deploy.backends.interface import probe

    images, feed = probe(spec)
    found = ((name, tensor.values) for name, tensor in CoreMLTensors(Path(model.package_path)).run(feed).items())
    return prepared.matches(images, found)


def quantize(model: Any, plan: "Plan", matches: Mapping[str, str]) -> Any:
    """Return a quantized copy of a float32 `MLModel`, without its metadata.

    Args:
        model: an ML program for at least `format.lowest_ios(plan.recipe)`.
        plan: what becomes an integer; without calibration, the weights of all convolutions and linear operations.
        matches: the plan's tensor that each of the program's corresponds to; not used without calibration.
    """
    import coremltools as ct
    from coremltools.converters.mil.converter import mil_convert
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = model.get_spec()
    program = load(spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir)
    if plan.recipe.needs_calibration:
        planned = _planned(program, plan, matches)
        _insert_pairs(program, planned, plan, matches)
        _compress(program, plan.recipe, {"op_name_configs": [operation.name for operation in planned]})
    else:
        _compress(program, plan.recipe, {"op_type_configs": _WEIGHTED})
    # A classifier's list of labels trips the pass; its probabilities stay float32, as in a float16 file.
    ct.transform.FP16ComputePrecision(lambda operation: operation.op_type != "classify").apply(program)
    return mil_convert(
        program,
        convert_from="milinternal",
        convert_to="mlprogram",
        specification_version=spec.specificationVersion,
        compute_units=model.compute_unit,
        model_description=spec.description,
        pass_pipeline=_cleanup(),
        skip_model_load=True,
    )


def _cleanup() -> Any:
    """Return the passes that remove unused operations; all others have run before, and one of them is inexact."""
    import coremltools as ct

    passes = ct.PassPipeline.CLEANUP
    # Puts a cast behind `classify`, which must be the last.
    passes.remove_passes(["common::topological_reorder"])
    return passes


def _planned(program: Any, plan: "Plan", matches: Mapping[str, str]) -> list[Any]:
    """Return the program's operations that the plan computes in integers, in order."""
    missing = sorted(plan.operators.difference(matches.values()))
    if missing:
        message = f"{len(missing)} of {len(plan.operators)} planned operators are not in the program: {missing[0]}, ..."
        raise ToolError(message, "report this")
    return [
        operation
        for operation in program.functions["main"].operations
        if operation.op_type in _WEIGHTED and matches.get(operation.outputs[0].name) in plan.operators
    ]


def _insert_pairs(program: Any, planned: Iterable[Any], plan: "Plan", matches: Mapping[str, str]) -> None:
    """Insert quantize and dequantize before the planned operations; those that read the same tensor share a pair.

    The pass that coremltools has for it computes scales and zero points in float16: a zero point may be one off, and
    beyond 511 it overflows to one end of the levels, or to no number.
    """
    dequantized: dict[str, Any] = {}
    with program.functions["main"]:
        for operation in planned:
            name = operation.x.name
            if name not in dequantized:
                kept = plan.ranges.get(matches.get(name, ""))
                if kept is None:
                    raise ToolError(f"no range is known for {name}, which {operation.name} reads", "report this")
                dequantized[name] = _pair(operation, kept)
            operation.set_inputs(**{**operation.inputs, "x": dequantized[name]})


def _pair(operation: Any, kept: "Range") -> Any:
    """Insert quantize and dequantize of an operation's input before it; return the dequantized tensor."""
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - its usual name

    scale, zero_point = kept.grid(8)
    grid: dict[str, Any] = {"scale": np.float32(max(scale, SMALLEST_SCALE))}
    # Without a zero point Core ML is faster.
    dtype = "uint8" if zero_point == 0 else "int8"
    if zero_point not in (0, 128):
        grid["zero_point"] = np.int8(zero_point - 128)
    name = operation.x.name
    numbers = mb.quantize(
        input=operation.x, output_dtype=dtype, name=f"{name}{_QUANTIZED}", before_op=operation, **grid
    )
    return mb.dequantize(input=numbers, name=f"{name}_dequantized", before_op=operation, **grid)


def _compress(program: Any, recipe: "Recipe", chosen: Mapping[str, Iterable[str]]) -> None:
    """Store the weights of the chosen operations, by name or by type, in a recipe's bits."""
    from coremltools.optimize.coreml import OpLinearQuantizerConfig, OpPalettizerConfig, OptimizationConfig
    from coremltools.optimize.coreml._quantization_passes import linear_quantize_weights, palettize_weights

    if recipe.palette:
        config = OpPalettizerConfig(
            mode="custom",
            lut_function=lambda weight: palette(weight, recipe.weight_bits),
            weight_threshold=SMALLEST_PALETTE,
        )
    else:
        config = OpLinearQuantizerConfig(
            mode="linear_symmetric", dtype=f"int{recipe.weight_bits}", granularity="per_channel", weight_threshold=0
        )
    rewrite = palettize_weights if recipe.palette else linear_quantize_weights
    configured = OptimizationConfig(**{by: dict.fromkeys(names, config) for by, names in chosen.items()})
    # A channel of zeros has the scale 0; 0 / 0 is not a number, and becomes the integer 0.
    with np.errstate(invalid="ignore"):
        rewrite(configured).apply(program)
