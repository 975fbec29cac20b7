"""Exported files for Core AI describe themselves, compute the model in Apple's interpreter, and hold its weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.coreai import process
from cloformer_deploy.backends.coreai.api import PROGRAM_FILE
from cloformer_deploy.backends.coreai.constants import dense
from cloformer_deploy.backends.inspection import inspect
from cloformer_deploy.backends.registry import BACKENDS, lower, runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.data import probe_images
from cloformer_deploy.errors import BundleError, ToolError
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation import validate
from cloformer_deploy.validation.bundle_work import reference_model
from tests.artifacts import artifact_of
from tests.blame.planting import plant, weight_of

pytestmark = pytest.mark.integration

SQNR_DB = {"fp32": (110, 150), "fp16": (45, 70), "int8": (15, 45), "w8": (25, 60), "p6": (15, 50)}
BYTES = {"fp16": (0.45, 0.75), "int8": (0.25, 0.75), "w8": (0.25, 0.7), "p6": (0.2, 0.7)}
"""Least and largest share of the float32 file's size; the graph weighs more in a small network."""
LAYER = "layers.2.blocks.0.mlp.fc1"


def path_of(bundle: Bundle, precision: str, format_name: str = "coreai") -> Path:
    return bundle.path(artifact_of(bundle, format_name, precision))


def images_of(bundle: Bundle, count: int) -> NDArray[np.float32]:
    return bundle.manifest.preprocessing.normalize(probe_images(count, bundle.manifest.preprocessing))


@pytest.fixture
def copied(small_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(path_of(small_bundle, "fp32"), tmp_path / "copied.aimodel"))


def test_every_precision_computes_the_model(small_bundle: Bundle) -> None:
    artifacts = [item for item in validate(small_bundle, None, 2, Silent()).artifacts if item.format == "coreai"]
    found = {item.precision: item.found.sqnr_db for item in artifacts if item.found is not None}
    assert found.keys() == SQNR_DB.keys()
    assert {name: value for name, value in found.items() if value is None or not _within(SQNR_DB[name], value)} == {}


def _within(limits: tuple[float, float], value: float) -> bool:
    return limits[0] < value < limits[1]


def test_sizes(small_bundle: Bundle) -> None:
    whole = artifact_of(small_bundle, "coreai", "fp32").bytes
    shares = {name: artifact_of(small_bundle, "coreai", name).bytes / whole for name in BYTES}
    assert {name: share for name, share in shares.items() if not _within(BYTES[name], share)} == {}


@pytest.mark.parametrize("precision", SQNR_DB)
def test_every_file_carries_its_own_description(small_bundle: Bundle, precision: str) -> None:
    manifest = small_bundle.manifest
    found = inspect(path_of(small_bundle, precision))
    assert found.problem is None
    (section,) = found.sections
    assert (section.name, section.findings) == ("accelerators", ())
    description = found.description
    assert (description.format, description.precision) == ("coreai", precision)
    assert description.metadata["labels"] == list(manifest.labels or ())
    assert description.metadata["preprocessing"] == manifest.preprocessing.model_dump(mode="json")
    assert description.metadata["weights_sha256"] == manifest.weights.sha256
    (image,), (logits,) = description.inputs, description.outputs
    assert (image.name, image.shape, image.dtype) == ("image", (1, 3, 64, 64), "float32")
    assert (logits.name, logits.shape, logits.dtype) == ("logits", (1, 20), "float32")
    assert artifact_of(small_bundle, "coreai", precision).options == {"minimum_os": 27}
    theirs = BACKENDS["coreml"].describe(path_of(small_bundle, "fp32", "coreml")).graph
    assert (description.graph.macs, description.graph.max_rank) == (theirs.macs, 4)
    assert description.graph.transposes == theirs.transposes
    assert description.graph.parameters == pytest.approx(theirs.parameters, rel=0.01)
    kinds = {(item.dtype, item.constant) for item in description.quantized}
    activations = {("uint8", False), ("int8", False)}
    expected = {"int8": {("int8", True)}, "w8": {("int8", True)}, "p6": {("uint6", True)}}
    assert kinds - activations == expected.get(precision, set())
    assert bool(kinds & activations) == (precision == "int8")
    clipped = [item.clipped for item in description.quantized if not item.constant]
    assert all(share is not None and share < 0.01 for share in clipped)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_tensor_can_be_read(small_bundle: Bundle, precision: str) -> None:
    path, image = path_of(small_bundle, precision), images_of(small_bundle, 1)
    program, seen = process.read(path), BACKENDS["coreai"].open_tensors(path).run({INPUT_NAME: image})
    logits = runtime_for("coreai").open(path).run({INPUT_NAME: image})["logits"]
    np.testing.assert_array_equal(seen[program.results[0]].values, logits)
    np.testing.assert_array_equal(seen[INPUT_NAME].values, image)
    assert len(seen) > 300
    rounded = [tensor.values for tensor in seen.values() if tensor.on_grid]
    assert bool(rounded) == (precision == "int8")
    assert all(len(np.unique(values)) <= 256 for values in rounded)


def test_the_batch_is_run_side_by_side_and_in_order(small_bundle: Bundle) -> None:
    session, images = runtime_for("coreai").open(path_of(small_bundle, "fp32")), images_of(small_bundle, 3)
    assert session.batch is None
    together = session.run({INPUT_NAME: images})["logits"]
    single = [session.run({INPUT_NAME: images[index : index + 1]})["logits"][0] for index in range(3)]
    np.testing.assert_array_equal(together, single)
    assert np.ptp(together, axis=0).max() > 0.1


@pytest.mark.parametrize(
    "feed",
    [
        {"photograph": np.zeros((1, 3, 64, 64), np.float32)},
        {INPUT_NAME: np.zeros((1, 3, 32, 64), np.float32)},
        {INPUT_NAME: np.zeros((1, 3, 64, 64), np.float64)},
    ],
)
def test_other_inputs_are_an_error(small_bundle: Bundle, feed: dict[str, NDArray[np.generic]]) -> None:
    session = runtime_for("coreai").open(path_of(small_bundle, "fp32"))
    with pytest.raises(ToolError, match=r"failed on the input .*it takes image float32"):
        session.run(feed)


def test_wrong_weights_are_found(small_bundle: Bundle, copied: Path) -> None:
    model = reference_model(small_bundle)
    lowered = lower(model, "coreai", "ane")
    assert BACKENDS["coreai"].weight_differences(copied, lowered) == []
    plant(copied, LAYER, weight_of(model, LAYER))
    (failure,) = BACKENDS["coreai"].weight_differences(copied, lowered)
    assert failure.startswith(f"{LAYER}.weight: ")


@pytest.mark.parametrize("precision", ["int8", "p6"])
def test_wrong_integers_are_found(small_bundle: Bundle, tmp_path: Path, precision: str) -> None:
    path = Path(shutil.copytree(path_of(small_bundle, precision), tmp_path / "copied.aimodel"))
    before = {item.name: item.values for item in dense(process.read(path))}
    content = bytearray(path.joinpath(PROGRAM_FILE).read_bytes())
    assert before
    content[len(content) // 2] ^= 0x10
    path.joinpath(PROGRAM_FILE).write_bytes(content)
    after = {item.name: item.values for item in dense(process.read(path))}
    assert sum(not np.array_equal(values, after[name]) for name, values in before.items()) == 1


def truncated(path: Path) -> None:
    file = path / PROGRAM_FILE
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])


def noise(path: Path) -> None:
    (path / PROGRAM_FILE).write_bytes(np.random.default_rng(0).bytes(4096))


def compiled(path: Path) -> None:
    (path / "main-h17.odix").write_bytes(b"code")


def linked(path: Path) -> None:
    (path / "main.hash").unlink()
    (path / "main.hash").symlink_to("/etc/hostname")


def without(path: Path) -> None:
    (path / PROGRAM_FILE).unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, "is damaged"),
        (noise, "is damaged"),
        (compiled, "main-h17.odix"),
        (linked, "main.hash' is a link"),
        (without, "has no main.mlirb"),
    ],
)
def test_damaged_files_are_told(copied: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(copied)
    with pytest.raises(BundleError, match=said):
        BACKENDS["coreai"].describe(copied)
    with pytest.raises(BundleError, match=said):
        runtime_for("coreai").open(copied)


def test_segmenters_and_detectors(dense_bundles: dict[str, Bundle]) -> None:
    limits = {"segmentation": (100, 160), "detection": (35, 75)}
    for task, bundle in dense_bundles.items():
        (artifact,) = validate(bundle, None, 2, Silent()).artifacts
        assert artifact.found is not None
        assert artifact.found.sqnr_db is not None
        assert _within(limits[task], artifact.found.sqnr_db), task
        assert artifact.found.agreement > 0.98
    (image,) = BACKENDS["coreai"].describe(path_of(dense_bundles["segmentation"], "fp32")).inputs
    assert image.dtype == "uint8"
