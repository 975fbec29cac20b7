"""Sessions take and give arrays by name, in the network's layout, whatever the network's outputs are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.latency import in_a_process
from cloformer_deploy.backends.base import INPUT_NAME, InputKind
from cloformer_deploy.backends.registry import BACKENDS, runtime_for
from cloformer_deploy.data import probe_images
from cloformer_deploy.errors import ToolError
from cloformer_deploy.tasks.distances import image_distances, named_outputs, summarize
from cloformer_deploy.validation import artifact_outputs, reference_outputs
from tests.backends.tiny_models import PREPROCESSING, SIDES, Case, convert, tiny_model

pytestmark = pytest.mark.integration

LEAST_DB = {"fp32": 100.0, "fp16": 50.0, "int8": 15.0}
"""An output in another's place, or in another layout, has about 0. Of int8, ONNX Runtime gives some 20 dB where a
processor has no VNNI: its kernels there add two products in 16 bits, which saturate with random weights."""
FILES: tuple[tuple[str, str, InputKind], ...] = (
    ("Segmentation", "fp32", "tensor"),
    ("Detection", "fp32", "tensor"),
    ("Pyramid", "fp16", "image"),
    ("Pyramid", "int8", "tensor"),
)
CASES = [Case(name, *file) for name in BACKENDS for file in FILES]
CASES.append(Case("coreml", "Pyramid", "fp32", "image", labels=True))
IMAGES = 2


def named(case: Case) -> str:
    return case.path(Path(case.format)).as_posix().replace("/", "-")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files. One converter brings JAX, and whoever has that must not fork any more: a process makes them."""
    made = tmp_path_factory.mktemp("tiny")
    in_a_process(convert, made, CASES)
    return made


@pytest.mark.parametrize("case", CASES, ids=named)
def test_outputs_are_the_models_by_name_and_channels_first(folder: Path, case: Case) -> None:
    model = tiny_model(case.model)
    pixels = probe_images(IMAGES, PREPROCESSING)
    expected = reference_outputs(model, PREPROCESSING.normalize(pixels), model.outputs)
    session = runtime_for(case.format).open(case.path(folder))
    assert session.batch == (None if case.format == "coreai" else 1)  # which runs images side by side
    image = pixels[:1] if case.input_kind == "image" else PREPROCESSING.normalize(pixels[:1])
    one = session.run({INPUT_NAME: image})
    assert set(one) == {output.name for output in model.outputs}
    assert {name: values.shape[1:] for name, values in one.items()} == {
        name: values.shape[1:] for name, values in expected.items()
    }
    assert {values.dtype for values in one.values()} == {np.dtype(np.float32)}
    found = artifact_outputs(session, pixels, PREPROCESSING, case.input_kind, expected)
    for output in model.outputs:  # each by itself: a small one would not show beside a large one
        figures = summarize(image_distances(expected, found, [output]))
        assert figures.sqnr_db is not None
        assert figures.sqnr_db > LEAST_DB[case.precision], output.name


@pytest.mark.parametrize("case", CASES, ids=named)
def test_files_describe_their_outputs_in_their_own_layout(folder: Path, case: Case) -> None:
    model = tiny_model(case.model)
    with torch.inference_mode():
        given = named_outputs(model(torch.zeros(1, 3, *SIDES)), model.outputs)
    shapes = {name: values.shape for name, values in given.items()}
    backend = BACKENDS[case.format]
    if backend.input_layout == "NHWC":
        shapes = {
            name: (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape for name, shape in shapes.items()
        }
    described = {item.name: item.shape for item in backend.describe(case.path(folder)).outputs}
    assert {name: described[name] for name in shapes} == shapes
    beside = described.keys() - shapes.keys()
    assert beside == ({"classLabel", "classLabel_probs"} if case.labels else set())


def test_a_name_that_the_file_has_not_is_an_error(folder: Path) -> None:
    for format_name in BACKENDS:
        session = runtime_for(format_name).open(Case(format_name, "Detection", "fp32", "tensor").path(folder))
        with pytest.raises(ToolError, match="failed on the input photograph float32"):
            session.run({"photograph": np.zeros((1, 3, *SIDES), np.float32)})


def test_every_tensor_can_be_read(folder: Path) -> None:
    """The outputs are among them, with the same numbers, in whatever order."""
    image = PREPROCESSING.normalize(probe_images(1, PREPROCESSING))
    model = tiny_model("Detection")
    expected = reference_outputs(model, image, model.outputs)
    for format_name, item in BACKENDS.items():
        path = Case(format_name, "Detection", "fp32", "tensor").path(folder)
        seen = item.open_tensors(path).run({INPUT_NAME: image})
        assert any(name.partition(":")[0] == INPUT_NAME for name in seen)
        for name, values in expected.items():
            wanted = np.sort(values, axis=None)
            same = [
                np.allclose(np.sort(tensor.values, axis=None), wanted, atol=1e-5)
                for tensor in seen.values()
                if tensor.values.size == wanted.size
            ]
            assert any(same), (format_name, name)
