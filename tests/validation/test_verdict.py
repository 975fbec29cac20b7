"""`validate` on real files: sound ones pass, and each way of being wrong is found and told."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloformer_deploy.backends.registry import RUNTIMES
from cloformer_deploy.bundle.bundle import MANIFEST_NAME, Bundle, digest
from cloformer_deploy.bundle.manifest import Manifest
from cloformer_deploy.errors import MissingPartError, ToolError
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation import Validation, validate

pytestmark = pytest.mark.integration


@pytest.fixture
def bundle(image_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy that a test may spoil."""
    shutil.copytree(image_bundle.root, tmp_path / "bundle")
    return Bundle.open(tmp_path / "bundle")


def only(bundle: Bundle, *names: str) -> Bundle:
    """The bundle with these artifacts alone, and the checksums their files have now."""
    kept = [
        item.model_copy(update={"sha256": digest(bundle.path(item))})
        for item in bundle.manifest.artifacts
        if f"{item.format} {item.precision}" in names
    ]
    manifest: Manifest = bundle.manifest.model_copy(update={"artifacts": tuple(kept)})
    (bundle.root / MANIFEST_NAME).write_text(manifest.model_dump_json())
    return Bundle.open(bundle.root)


def run(bundle: Bundle, data: Path | None = None) -> Validation:
    return validate(bundle, data, None, Silent())


def test_sound_files_pass_within_what_their_precision_allows(image_bundle: Bundle) -> None:
    result = run(image_bundle)
    assert not result.failed
    assert {item.status for item in result.artifacts} == {"passed"}
    for item in result.artifacts:
        assert item.top1_agreement == 1
        assert item.sqnr_db is not None
        low, high = (110, 160) if item.precision == "fp32" else (50, 80)
        assert low < item.sqnr_db < high, item.path
        assert item.top1 is None
        assert item.top1_drop_ci95_pp is None


def test_labeled_images_give_a_paired_drop(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index, label in enumerate(bundle.manifest.labels or ()):
        (tmp_path / "data" / label).mkdir(parents=True)
        pixels = rng.integers(0, 256, (300, 260, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / label / f"{index}.png")
    result = run(only(bundle, "onnx fp32"), tmp_path / "data")
    (item,) = result.artifacts
    assert (result.reference.n, item.n) == (10, 10)
    assert result.reference.top1 == item.top1
    assert item.top1_drop_pp == 0
    assert item.top1_drop_ci95_pp is not None
    assert item.top1_drop_ci95_pp[0] < 0 < item.top1_drop_ci95_pp[1]


def test_a_few_zeroed_weights_are_named_although_the_logits_hardly_move(bundle: Bundle) -> None:
    bundle = only(bundle, "coreml fp16")
    weights = next(bundle.path(bundle.manifest.artifacts[0]).rglob("weight.bin"))
    content = bytearray(weights.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 512] = bytes(512)
    weights.write_bytes(content)
    (item,) = run(only(bundle, "coreml fp16")).artifacts
    assert item.status == "failed"
    assert item.sqnr_db is not None
    assert item.sqnr_db > 20
    assert any("layers." in failure and "differ" in failure for failure in item.failures)


def test_an_onnx_file_of_other_weights_fails(bundle: Bundle) -> None:
    import onnx
    from onnx import numpy_helper

    bundle = only(bundle, "onnx fp32")
    path = bundle.path(bundle.manifest.artifacts[0])
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[::-1].copy(), weight.name))
    onnx.save(model, path)
    result = run(only(bundle, "onnx fp32"))
    assert result.failed
    (item,) = result.artifacts
    assert any("dB is below 90 dB" in failure for failure in item.failures)


def test_nan_is_counted_and_fails(bundle: Bundle) -> None:
    import onnx
    from onnx import numpy_helper

    bundle = only(bundle, "onnx fp32")
    path = bundle.path(bundle.manifest.artifacts[0])
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
    values = np.full(tuple(weight.dims), np.nan, np.float32)
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)
    (item,) = run(only(bundle, "onnx fp32")).artifacts
    assert "NaN or Inf on 16 of 16 images" in item.failures
    assert (item.top1_agreement, item.sqnr_db, item.max_abs_diff) == (0, None, None)


def test_a_file_of_another_class_count_is_an_error(bundle: Bundle) -> None:
    import onnx
    from onnx import helper

    bundle = only(bundle, "onnx fp32")
    path = bundle.path(bundle.manifest.artifacts[0])
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Concat", ["logits", "logits"], ["doubled"], axis=1))
    model.graph.output[0].name = "doubled"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 20
    onnx.save(model, path)
    with pytest.raises(ToolError, match=r"logits of shape \(1, 20\), not \(1, 10\)"):
        run(only(bundle, "onnx fp32"))


def test_a_missing_runtime_is_not_executed_and_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    lack = MissingPartError("the Python package onnxruntime is not installed", "pip install it")
    monkeypatch.setattr(RUNTIMES["onnxruntime"], "missing", lambda: lack)
    result = run(only(bundle, "onnx fp32", "tflite fp32"))
    assert [item.status for item in result.artifacts] == ["not_executed", "passed"]
    assert result.missing == (lack,)
    assert dataclasses.asdict(result.artifacts[0])["sqnr_db"] is None
    assert not result.failed
