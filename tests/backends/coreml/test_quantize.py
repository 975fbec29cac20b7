"""Quantized Core ML programs: what is an integer in them, on which grid, and that they still compute the model."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cloformer_deploy.backends.base import ExportSpec
from cloformer_deploy.backends.coreml.format import lowest_ios
from cloformer_deploy.backends.coreml.interpreter import Program, compare_weights
from cloformer_deploy.backends.coreml.quantize import quantize
from cloformer_deploy.backends.registry import BACKENDS, lower, target_of
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import Preprocessing, probe_images
from cloformer_deploy.errors import ToolError
from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.progress import Silent
from cloformer_deploy.quantization import observers
from cloformer_deploy.quantization.graph import trace
from cloformer_deploy.quantization.observers import Range
from cloformer_deploy.quantization.plan import Plan, plan, quantized_operators, tensors
from cloformer_deploy.quantization.preparation import Prepared, weights_only
from cloformer_deploy.quantization.recipes import Recipe
from cloformer_deploy.quantization.simulation import rounded_weights
from tests.artifacts import artifact_of
from tests.backends.coreml.interpreter.coreml_programs import build, coremltools, quiet
from tests.backends.specs import spec
from tests.tasks.comparing import compared
from tests.tiny import TINY, as_trained

OWN = target_of("coreml", "ane").recipes
W8A8, W8, P6 = OWN["int8"], OWN["w8"], OWN["p6"]
SHAPE = (1, 4, 6, 6)
STEM_ENDS = 2
"""Convolutions that the recipe leaves in float."""
PLANNED = frozenset({"stem", "depthwise", "left"})
RANGES = {"x": Range(-1.0, 3.0), "activated": Range(0.0, 2.0)}

Weights = dict[str, NDArray[np.float32]]

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """coremltools leaves temporary folders to the garbage collector, which warns: here, not in later tests."""
    yield
    gc.collect()


def weights() -> Weights:
    rng = np.random.default_rng(0)
    shapes = {"stem": (8, 4, 1, 1), "depthwise": (8, 1, 3, 3), "left": (8, 8, 1, 1), "right": (8, 8, 1, 1)}
    made = {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    made["stem"] *= np.logspace(-2, 1, 8).reshape(8, 1, 1, 1).astype(np.float32)
    made["left"][3] = 0  # a channel of zeros
    return made


def body(mb: Any, x: Any) -> Any:
    """Stem, ReLU, and three convolutions of that; `right` is not planned."""
    made = weights()
    activated = mb.relu(x=mb.conv(x=x, weight=made["stem"], name="stem"), name="activated")
    depthwise = mb.conv(x=activated, weight=made["depthwise"], groups=8, pad_type="same", name="depthwise")
    left = mb.conv(x=activated, weight=made["left"], name="left")
    right = mb.conv(x=activated, weight=made["right"], name="right")
    return [mb.concat(values=[depthwise, left, right], axis=1, name="out")]


def rewritten(
    folder: Path, recipe: Recipe, ranges: dict[str, Range] = RANGES, planned: frozenset[str] = PLANNED
) -> Program:
    """The small program quantized, saved and loaded."""
    float_path = build(folder / "float.mlpackage", body, [SHAPE], ios=lowest_ios(recipe))
    matches = {name: name for name in ("x", "stem", "activated", "depthwise", "left", "right")}
    with quiet():
        model = coremltools().models.MLModel(str(float_path), skip_model_load=True)
        quantized = quantize(model, Plan(recipe, planned, ranges), matches)
        quantized.save(str(folder / "quantized.mlpackage"))
    return Program.load(folder / "quantized.mlpackage")


def test_planned_convolutions_read_integers_on_the_plans_grid(tmp_path: Path) -> None:
    program = rewritten(tmp_path, W8A8)
    assert program.package.operators["quantize"] == program.package.operators["dequantize"] == 2
    seen: dict[str, torch.Tensor] = {}
    x = np.random.default_rng(1).normal(0, 2, SHAPE).astype(np.float32)
    out = program.run({"x": x}, lambda name, value: seen.update({name.partition("_cast_fp16")[0]: value}))
    scale, zero_point = RANGES["x"].grid(8)
    half, half_scale = (value.astype(np.float16).astype(np.float32) for value in (x, np.float32(scale)))
    expected = np.clip(np.rint(half / half_scale) + zero_point, 0, 255) - 128
    np.testing.assert_array_equal(seen["x_quantized"].numpy(), expected)
    assert seen["x_quantized"].dtype == torch.int8
    # From 0 on there is no zero point.
    assert seen["activated_quantized"].dtype == torch.uint8
    step = RANGES["activated"].grid(8)[0]
    np.testing.assert_allclose(seen["activated_dequantized"].numpy() / step, seen["activated_quantized"], rtol=1e-3)
    assert np.asarray(out["out"]).dtype == np.float32


def test_only_the_planned_convolutions_have_integer_weights_those_of_the_simulation(tmp_path: Path) -> None:
    program = rewritten(tmp_path, W8A8)
    compressed = program.plan.compressed
    assert len(compressed) == len(PLANNED)
    stored = {tuple(value.arguments["quantized_data"].shape): value.arguments for value in compressed.values()}
    for name in PLANNED:
        weight = torch.from_numpy(weights()[name])
        arguments = stored[tuple(weight.shape)]
        scale = (weight.flatten(1).abs().amax(dim=1) / 127).numpy()
        integers = rounded_weights(weight, 8).numpy() / np.maximum(scale, 1e-30).reshape(-1, 1, 1, 1)
        np.testing.assert_array_equal(arguments["quantized_data"], np.rint(integers))
        np.testing.assert_allclose(arguments["scale"], scale, rtol=1e-3)
    right = [value for value in program.constants.values() if value.shape == (8, 8, 1, 1)]
    assert any(np.array_equal(value, weights()["right"].astype(np.float16)) for value in right)
    assert compare_weights(program, weights()) == []


def test_ranges_that_float16_cannot_compute_with(tmp_path: Path) -> None:
    ranges = {"x": Range(-1000.0, 3000.0), "activated": Range(0.0, 1e-3)}
    program = rewritten(tmp_path, W8A8, ranges)
    (grid,) = [
        step.constants for step in program.plan.steps if step.operation == "quantize" and len(step.constants) == 3
    ]
    assert int(grid["zero_point"]) + 128 == 64
    assert float(grid["scale"]) == pytest.approx(4000 / 255, rel=1e-3)
    scales = [float(step.constants["scale"]) for step in program.plan.steps if step.operation == "dequantize"]
    assert min(scales) == np.finfo(np.float16).smallest_normal


@pytest.mark.parametrize(
    ("ranges", "planned", "message"),
    [
        (RANGES, PLANNED | {"conv_7"}, "1 of 4 planned operators are not in the program: conv_7"),
        ({"x": RANGES["x"]}, PLANNED, "no range is known for activated, which depthwise reads"),
    ],
)
def test_what_the_program_lacks_is_named(
    tmp_path: Path, ranges: dict[str, Range], planned: frozenset[str], message: str
) -> None:
    with pytest.raises(ToolError, match=message):
        rewritten(tmp_path, W8A8, ranges, planned)


def test_stored_weights_need_no_plan_and_no_new_ios(tmp_path: Path) -> None:
    program = rewritten(tmp_path, W8, {}, frozenset())
    assert program.package.operators["constexpr_affine_dequantize"] == 4
    assert "quantize" not in program.package.operators
    assert program.package.opset == "CoreML6"
    assert compare_weights(program, weights()) == []


# A whole model.


@pytest.fixture(scope="module")
def preprocessing() -> Preprocessing:
    return Preprocessing.published(64, 64)


@pytest.fixture(scope="module")
def reference() -> CloFormer:
    return as_trained(TINY, seed=0)


def convert(asked: ExportSpec, path: Path) -> Program:
    with quiet():
        list(BACKENDS["coreml"].convert(asked, {"int8": path}, Silent()))
    return Program.load(path)


def sqnr_db(program: Program, model: CloFormer, preprocessing: Preprocessing) -> float:
    """Return the SQNR of the logits of rendered images, against a float model."""
    pixels = probe_images(8, preprocessing)
    images = preprocessing.normalize(pixels)
    fed = pixels if program.package.inputs[0].kind == "image" else images
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    found = [np.asarray(program.run({"image": fed[index : index + 1]})["logits"]) for index in range(len(fed))]
    found_db = compared(expected, np.concatenate(found)).sqnr_db
    assert found_db is not None
    return found_db


def float_tensors(model: CloFormer) -> Weights:
    return {name: value.numpy() for name, value in model.state_dict().items() if value.is_floating_point()}


def test_convolutions_of_a_whole_model_in_integers(
    reference: CloFormer, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    lowered = lower(reference, "coreml", "ane", integer=True)
    with quiet():
        traced = trace(lowered, 3, 64, 64)
    read = tensors(traced, W8A8, quantized_operators(traced, W8A8))
    images = torch.from_numpy(preprocessing.normalize(probe_images(8, preprocessing)))
    seen = observers.observe(traced, read, [images])
    ready = Prepared(lowered, traced, plan(traced, W8A8, seen), seen)
    labels = tuple(f"class {index}" for index in range(reference.num_classes))
    asked = spec("coreml", lowered, preprocessing, {"ios": 18}, input_kind="image", labels=labels, quantized=ready)
    program = convert(asked, tmp_path / "int8.mlpackage")
    convolutions = program.package.operators["conv"]
    assert len(program.plan.compressed) == convolutions - STEM_ENDS
    assert 0 < program.package.operators["quantize"] == program.package.operators["dequantize"] <= convolutions
    # Nothing is float32 inside.
    assert all(value.dtype == np.float16 for value in program.constants.values() if value.size > 1)
    assert program.package.inputs[0].kind == "image"
    assert [output.name for output in program.package.outputs] == ["classLabel", "classLabel_probs", "logits"]
    assert compare_weights(program, float_tensors(lowered)) == []
    assert 24 < sqnr_db(program, reference, preprocessing) < 45


def test_convolutions_of_an_exported_file_in_integers(tiny_bundle: Bundle) -> None:
    """A file that takes normalized tensors, for the default iOS version."""
    path = tiny_bundle.path(artifact_of(tiny_bundle, "coreml", "int8"))
    program = Program.load(path)
    convolutions = program.package.operators["conv"]
    assert len(program.plan.compressed) == convolutions - STEM_ENDS
    assert 0 < program.package.operators["quantize"] == program.package.operators["dequantize"] <= convolutions
    assert all(value.dtype == np.float16 for value in program.constants.values() if value.size > 1)
    assert program.package.inputs[0].kind == "tensor"
    assert [output.name for output in program.package.outputs] == ["logits"]


@pytest.mark.parametrize(
    ("recipe", "operation", "floor_db"),
    [(W8, "constexpr_affine_dequantize", 30), (P6, "constexpr_lut_to_dense", 24)],
)
def test_weights_of_a_whole_model_in_few_bits(
    reference: CloFormer, preprocessing: Preprocessing, tmp_path: Path, recipe: Recipe, operation: str, floor_db: float
) -> None:
    lowered = lower(reference, "coreml", "ane")
    asked = spec("coreml", lowered, preprocessing, quantized=weights_only(lowered, recipe))
    # A palette is looked for from a random start, which must be the same in every conversion.
    programs = [convert(asked, tmp_path / f"{index}.mlpackage") for index in range(1 + recipe.palette)]
    assert programs[0].package.operators[operation] >= (26 if recipe.palette else 31)
    files = [program.package.read_weights("@model_path/weights/weight.bin") for program in programs]
    assert files[0] == files[-1]
    assert (
        len(files[0]) < sum(weight.size for weight in float_tensors(lowered).values()) * (recipe.weight_bits / 8) * 1.3
    )
    assert compare_weights(programs[0], float_tensors(lowered)) == []
    assert floor_db < sqnr_db(programs[0], reference, preprocessing) < 55
