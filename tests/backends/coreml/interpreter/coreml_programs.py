"""Build small Core ML packages with coremltools for the interpreter's tests."""

import json
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.backends.coreml.detections import CELLS, with_suppression
from cloformer_deploy.backends.coreml.interpreter import Program
from cloformer_deploy.errors import BundleError

Build = Callable[..., Any]
"""A function that defines a program: it takes coremltools' program builder and the inputs, and returns the outputs."""

Case = tuple[str, Build, Callable[..., Tensor | tuple[Tensor, ...]]]
"""A name, a program of one operation, and a torch function that computes the same."""

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings: coremltools and torch.export warn about each other's versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def coremltools() -> Any:
    """Import coremltools without its warnings and return the module."""
    with quiet():
        import coremltools

        return coremltools


def build(
    path: Path, body: Build, shapes: list[tuple[int, ...]], dtype: str = "fp32", ios: int = 17, **options: Any
) -> Path:
    """Save a package with a program, by default without any rewriting by passes of coremltools.

    Args:
        path: the package to write.
        body: defines the program.
        shapes: the shapes of the inputs: x, or x and y.
        dtype: the element type of the inputs, as coremltools names it: "fp32", "fp16" or "int32".
        ios: the minimum iOS version.
        options: further arguments of `coremltools.convert`.

    Returns:
        `path`.
    """
    ct = coremltools()
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - its usual name
    from coremltools.converters.mil.mil import types

    target = getattr(ct.target, f"iOS{ios}")
    specs = [mb.TensorSpec(shape, getattr(types, dtype)) for shape in shapes]
    # The builder takes the names and the number of inputs from the signature.
    function: Any = (lambda x: body(mb, x)) if len(shapes) == 1 else (lambda x, y: body(mb, x, y))
    with quiet():
        program = mb.program(input_specs=specs, opset_version=target)(function)
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=target,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
            **{"pass_pipeline": ct.PassPipeline.EMPTY} | options,
        )
        model.save(str(path))
    return path


def build_valid(path: Path) -> Path:
    """Save a valid package with a weight file, whose program is conv(x) + tanh(x) for x (1, 4, 6, 5)."""

    def body(mb: Any, x: Any) -> Any:
        weight = np.arange(48, dtype=np.float32).reshape(4, 4, 3, 1)
        return mb.add(x=mb.conv(x=x, weight=weight, pad_type="same", name="conv"), y=mb.tanh(x=x), name="out")

    return build(path, body, [(1, 4, 6, 5)])


def build_pipeline(path: Path, cells: int, classes: int) -> Path:
    """Save a package of a program that passes scores (cells, classes) and boxes (cells, 4) on, and of suppression."""

    def body(mb: Any, x: Any, y: Any) -> list[Any]:
        return [mb.identity(x=x, name=CELLS[0]), mb.identity(x=y, name=CELLS[1])]

    program = build(path.with_name("program.mlpackage"), body, [(cells, classes), (cells, 4)])
    with quiet():
        model = coremltools().models.MLModel(str(program), skip_model_load=True)
        with_suppression(model, None).save(str(path))
    return path


def assert_rejected(package: Path, match: str) -> None:
    """Check that loading the package raises a BundleError with a hint and a message that matches."""
    with pytest.raises(BundleError, match=match) as caught:
        Program.load(package)
    assert caught.value.hint


def edit(package: Path, change: Callable[[Any], None]) -> Path:
    """Change the package's protobuf in place; `change` receives the Model_pb2.Model."""
    from coremltools.proto import Model_pb2

    file = package / MODEL
    spec = Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    change(spec)
    file.write_bytes(spec.SerializeToString())
    return package


def operations(spec: Any) -> Any:
    """Return the operations of the only block of a Model_pb2.Model."""
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    return block.operations


def edit_manifest(package: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the package's manifest in place; `change` receives the parsed JSON."""
    file = package / "Manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    return package


def blob(data: bytes, dtype: int, unused_bits: int = 0, **fields: int) -> bytearray:
    """Return a weight file with one entry.

    Args:
        data: the data of the entry.
        dtype: the number of its data type.
        unused_bits: the number of unused bits at the end of the data.
        fields: other values for the fields `version`, `count`, `sentinel`, `size` and `start`.
    """
    header = struct.pack("<II56x", fields.get("count", 1), fields.get("version", 2))
    metadata = struct.pack(
        "<IIQQQ32x",
        fields.get("sentinel", 0xDEADBEEF),
        dtype,
        fields.get("size", len(data)),
        fields.get("start", 128),
        unused_bits,
    )
    return bytearray(header + metadata + data)


def random_arrays(shapes: list[tuple[int, ...]], dtype: str = "fp32") -> dict[str, NDArray[Any]]:
    """Return seeded normally distributed inputs x and y of a program."""
    rng = np.random.default_rng(0)
    kind = {"fp32": np.float32, "fp16": np.float16, "int32": np.int32}[dtype]
    return {name: rng.normal(0, 2, shape).astype(kind) for name, shape in zip("xy", shapes, strict=False)}


def weights(*shape: int) -> NDArray[Any]:
    """Return seeded float32 constants that float16 represents exactly, so that they are equal in both precisions."""
    values = np.random.default_rng(len(shape)).normal(0, 1, shape)
    return values.astype(np.float16).astype(np.float32)


def cast(like: Any, values: Any) -> NDArray[Any]:
    """Convert constants to the precision of `like`, a value of the program."""
    from coremltools.converters.mil.mil import types

    return np.asarray(values, np.float16 if like.dtype == types.fp16 else np.float32)


def check(path: Path, shapes: list[tuple[int, ...]], cases: list[Case], dtype: str) -> None:
    """Compare the program of each case with its torch function on seeded inputs; all cases share one package."""

    def body(mb: Any, *inputs: Any) -> list[Any]:
        results = [case(mb, *inputs) for _, case, _ in cases]
        outs = [each if isinstance(each, list | tuple) else [each] for each in results]
        return [mb.identity(x=out, name=f"out_{i}_{k}") for i, group in enumerate(outs) for k, out in enumerate(group)]

    arrays = random_arrays(shapes, dtype)
    computed = Program.load(build(path, body, shapes, dtype)).run(arrays)
    tensors = [torch.from_numpy(array).float() for array in arrays.values()]
    compared = 0
    for i, (name, _, reference) in enumerate(cases):
        expected = reference(*tensors)
        for k, tensor in enumerate(expected if isinstance(expected, tuple) else (expected,)):
            out = computed[f"out_{i}_{k}"]
            assert isinstance(out, np.ndarray)
            assert out.dtype == arrays["x"].dtype, name
            assert out.shape == tuple(tensor.shape), name
            # A case in float16 rounds once or twice.
            tolerance = 2e-3 if dtype == "fp16" else 2e-6
            np.testing.assert_allclose(out, tensor.numpy(), rtol=tolerance, atol=2 * tolerance, err_msg=name)
            compared += 1
    assert compared == len(computed)
