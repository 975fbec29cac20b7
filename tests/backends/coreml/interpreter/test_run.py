"""The interpreter's description of a model, its inputs and outputs, and the errors of a run."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from cloformer_deploy.backends.coreml.interpreter import Feature, Package, Program
from cloformer_deploy.errors import BundleError, RequestError, ToolError
from tests.backends.coreml.interpreter.coreml_programs import build, coremltools, edit, operations

pytestmark = pytest.mark.integration

LABELS = ["cat", "dog", "fish"]
MIX = np.array([[0.01, 0, 0], [0, 0.02, 0], [0, 0, 0.03]], np.float32)


def build_classifier(path: Path, labels: list[Any], ios: int = 17) -> Path:
    """Save a classifier of RGB images: the softmax of the channel means, multiplied by the diagonal matrix `MIX`."""
    ct = coremltools()

    def body(mb: Any, x: Any) -> Any:
        return mb.softmax(x=mb.linear(x=mb.reduce_mean(x=x, axes=[2, 3]), weight=MIX), name="probabilities")

    image = ct.ImageType(name="x", shape=(1, 3, 4, 6), scale=0.5, bias=[1.0, 2.0, 3.0])
    return build(
        path,
        body,
        [(1, 3, 4, 6)],
        ios=ios,
        inputs=[image],
        classifier_config=ct.ClassifierConfig(labels, "label", "probabilities"),
        pass_pipeline=ct.PassPipeline.DEFAULT,
    )


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def change(spec: Any) -> None:
        spec.description.metadata.author = "me"
        spec.description.metadata.userDefined["com.example.note"] = "hello"

    return edit(build_classifier(tmp_path_factory.mktemp("run") / "c.mlpackage", LABELS), change)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A float16 program for x (2, 3): the sum over each row of tanh(x)."""

    def body(mb: Any, x: Any) -> Any:
        return mb.reduce_sum(x=mb.tanh(x=x, name="tanh"), axes=[1], name="sums")

    return build(tmp_path / "p.mlpackage", body, [(2, 3)], "fp16")


def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (1, 3, 4, 6)).astype(np.uint8)


def expected_probabilities(image: NDArray[Any]) -> NDArray[Any]:
    logits = (image.astype(np.float64) * 0.5).mean((0, 2, 3)) + np.array([1, 2, 3])
    powers = np.exp(logits * np.diag(MIX))
    return np.asarray(powers / powers.sum())


def test_describes_an_image_classifier(classifier: Path) -> None:
    package = Package.load(classifier)
    assert package.inputs == (Feature("x", "image", (1, 3, 4, 6), "uint8"),)
    assert package.outputs == (
        Feature("label", "string", (), "string"),
        Feature("label_probs", "dictionary", (), "string"),
    )
    assert package.operators == {"mul": 1, "add": 1, "reduce_mean": 1, "linear": 1, "softmax": 1, "classify": 1}
    assert package.opset == "CoreML7"
    assert package.metadata["author"] == "me"
    assert package.metadata["com.example.note"] == "hello"
    assert "license" not in package.metadata


def test_describes_tensors(program: Path) -> None:
    package = Package.load(program)
    assert package.inputs == (Feature("x", "tensor", (2, 3), "float16"),)
    assert package.outputs == (Feature("sums", "tensor", (2,), "float16"),)


def test_describes_unsupported_operations(program: Path) -> None:
    edit(program, lambda spec: setattr(operations(spec)[-1], "type", "unsupported"))
    assert Package.load(program).operators == {"tanh": 1, "unsupported": 1}


def test_runs_an_image_classifier(classifier: Path) -> None:
    out = Program.load(classifier).run({"x": pixels()})
    probabilities = expected_probabilities(pixels())
    assert out["label"] == LABELS[probabilities.argmax()]
    assert isinstance(out["label_probs"], dict)
    assert list(out["label_probs"]) == LABELS
    np.testing.assert_allclose(list(out["label_probs"].values()), probabilities, rtol=1e-5)


def test_accepts_an_image_of_floats(classifier: Path) -> None:
    loaded = Program.load(classifier)
    assert loaded.run({"x": pixels().astype(np.float64)}) == loaded.run({"x": pixels()})


def test_labels_can_be_numbers(tmp_path: Path) -> None:
    out = Program.load(build_classifier(tmp_path / "c.mlpackage", [10, 20, 30])).run({"x": pixels()})
    assert out["label"] == [10, 20, 30][expected_probabilities(pixels()).argmax()]
    assert list(out["label_probs"]) == [10, 20, 30]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (pixels()[:, :2], r"uint8\[1, 3, 4, 6\], got uint8\[1, 2, 4, 6\]"),
        (pixels().astype(np.int32), r"got int32"),
        (pixels() / np.float32(255) - np.float32(0.5), r"values from -0.48"),
        (np.full((1, 3, 4, 6), np.nan, np.float32), "values from nan"),
        (np.full((1, 3, 4, 6), 256, np.float32), "to 256.0"),
    ],
)
def test_rejects_invalid_images(classifier: Path, image: NDArray[Any], match: str) -> None:
    with pytest.raises(RequestError, match=match) as caught:
        Program.load(classifier).run({"x": image})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ({}, "inputs x, got none"),
        ({"y": np.zeros((2, 3), np.float16)}, "inputs x, got y"),
        ({"x": np.zeros((3, 2), np.float16)}, r"float16\[2, 3\], got float16\[3, 2\]"),
        ({"x": np.zeros((2, 3), np.int64)}, r"float16\[2, 3\], got int64\[2, 3\]"),
    ],
)
def test_rejects_invalid_inputs(program: Path, inputs: dict[str, NDArray[Any]], match: str) -> None:
    with pytest.raises(RequestError, match=match) as caught:
        Program.load(program).run(inputs)
    assert caught.value.hint


def test_rounds_floats_to_the_input_type(program: Path) -> None:
    loaded = Program.load(program)
    values = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    (wide,), (narrow,) = (loaded.run({"x": each}).values() for each in (values, values.astype(np.float16)))
    np.testing.assert_array_equal(wide, narrow)
    assert isinstance(wide, np.ndarray)
    assert wide.dtype == np.float16


def test_outputs_do_not_share_memory_with_inputs(tmp_path: Path) -> None:
    package = build(tmp_path / "p.mlpackage", lambda mb, x: mb.reshape(x=x, shape=[6]), [(2, 3)])
    values = np.ones((2, 3), np.float32)
    values.flags.writeable = False
    (out,) = Program.load(package).run({"x": values}).values()
    assert isinstance(out, np.ndarray)
    out[:] = 7
    assert values.sum() == 6


def test_observer_receives_each_value_in_order(program: Path) -> None:
    observed: list[tuple[str, Tensor]] = []
    out = Program.load(program).run({"x": np.ones((2, 3), np.float16)}, lambda *each: observed.append(each))
    assert [name for name, _ in observed] == ["tanh", "sums"]
    assert str(observed[0][1].dtype) == "torch.float16"
    np.testing.assert_array_equal(observed[1][1].numpy(), out["sums"])


def test_lists_all_unsupported_operations_before_decoding(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(spec: Any) -> None:
        operations(spec)[-1].type = "new_a"
        for _ in range(2):
            operations(spec).add(type="new_b")

    def fail(self: Any, value: Any) -> Any:
        raise AssertionError("a constant was decoded")

    edit(program, change)
    monkeypatch.setattr("cloformer_deploy.backends.coreml.interpreter.constants.Decoder.decode", fail)
    with pytest.raises(BundleError, match=r"'new_a' \(1\), 'new_b' \(2\)") as caught:
        Program.load(program)
    assert "report" in caught.value.hint


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("size", 4, r"'tanh' of tanh is declared as float16\[2, 4\], but computed as float16\[2, 3\]"),
        ("type", 11, r"'tanh' of tanh is declared as float32\[2, 3\], but computed as float16\[2, 3\]"),
    ],
)
def test_result_of_another_type_than_declared(program: Path, field: str, value: int, match: str) -> None:
    def change(spec: Any) -> None:
        (tanh,) = (each for each in operations(spec) if each.type == "tanh")
        kind = tanh.outputs[0].type.tensorType
        if field == "size":
            kind.dimensions[1].constant.size = value
        else:
            kind.dataType = value

    loaded = Program.load(edit(program, change))
    with pytest.raises(ToolError, match=match) as caught:
        loaded.run({"x": np.ones((2, 3), np.float16)})
    assert caught.value.hint


def test_label_of_another_type_than_declared(classifier: Path, tmp_path: Path) -> None:
    package = build_classifier(tmp_path / "c.mlpackage", LABELS)
    edit(package, lambda spec: setattr(operations(spec)[-1].outputs[0].type.tensorType, "dataType", 24))
    with pytest.raises(ToolError, match=r"'label' of classify is declared as int64\[\], but computed as string\[\]"):
        Program.load(package).run({"x": pixels()})


def test_error_names_the_failed_operation(program: Path) -> None:
    def change(spec: Any) -> None:
        (axes,) = (each for each in operations(spec) if each.outputs[0].name == "sums_axes_0")
        axes.attributes["val"].immediateValue.tensor.ints.values[0] = 5

    with pytest.raises(ToolError, match="reduce_sum 'sums' failed: Dimension out of range"):
        Program.load(edit(program, change)).run({"x": np.ones((2, 3), np.float16)})


def test_frees_values_after_their_last_use(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: dict[str, bool] = {}
    references: dict[str, Any] = {}

    def body(mb: Any, x: Any) -> Any:
        y = mb.exp(x=mb.tanh(x=x, name="first"), name="second")
        return mb.sqrt(x=mb.square(x=y, name="third"), name="fourth")

    def observe(name: str, value: Tensor) -> None:
        if name == "third":
            alive.update({each: reference() is not None for each, reference in references.items()})
        references[name] = weakref.ref(value)

    Program.load(build(program.parent / "chain.mlpackage", body, [(3,)])).run({"x": np.ones(3, np.float32)}, observe)
    assert alive == {"first": False, "second": True}
