"""`validate` on labeled and unlabeled images, and on artifacts that fail."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloformer_deploy.data import image_digest
from tests.cli.command_line import (
    CLASSES,
    FAVORITE,
    CopyBundle,
    edit_manifest,
    hide,
    invoke,
    read_manifest,
    relist,
    save,
    small_model,
)
from tests.cli.contract import validated
from tests.cli.noise import IMAGES, expected_top1, spread, write

pytestmark = pytest.mark.integration


def test_labeled_images(
    drafted: CopyBundle,
    pixels: NDArray[np.uint8],
    predicted: list[int],
    tmp_path: Path,
) -> None:
    names = read_manifest(drafted())["labels"]
    write(tmp_path / "data", pixels, (names[label] for label in spread(predicted)))
    answer = validated("--data", "data", code=1)
    assert answer["reference"]["n"] == IMAGES
    assert answer["reference"]["score"] == expected_top1(predicted) >= 2 / IMAGES
    verdict = answer["artifacts"][0]
    assert verdict["status"] == "failed"
    assert verdict["n"] == IMAGES
    assert verdict["score"] == spread(predicted).count(FAVORITE) / IMAGES
    assert verdict["agreement"] == predicted.count(FAVORITE) / IMAGES
    assert verdict["drop_pp"] == pytest.approx(100 * (expected_top1(predicted) - verdict["score"]))
    low, high = verdict["drop_ci95_pp"]
    assert -100 <= low <= verdict["drop_pp"] <= high <= 100


def test_unlabeled_images(drafted: CopyBundle, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    drafted()
    write(tmp_path / "data", pixels[:3], [""] * 3)
    answer = validated("--data", "data", code=1)
    assert answer["reference"] == {"runtime": "pytorch", "n": 3, "score": None}
    verdict = answer["artifacts"][0]
    assert [verdict[key] for key in ("score", "drop_pp", "drop_ci95_pp")] == [None] * 3
    assert verdict["n"] == 3
    assert verdict["max_abs_diff"] > 0.1


def test_rendered_images_have_labels_for_the_rendered_task_alone(drafted: CopyBundle) -> None:
    bundle = drafted()
    answer = validated("--limit", "3", code=1)
    assert answer["images"] == "rendered test 0-2"
    assert answer["reference"]["score"] is not None
    edit_manifest(bundle, lambda manifest: manifest.update(labels=[f"class {index}" for index in range(CLASSES)]))
    answer = validated(code=1)
    assert answer["images"] == "rendered test 0-15"
    assert answer["reference"]["score"] is answer["artifacts"][0]["score"] is None


@pytest.mark.parametrize(("limit", "n"), [(1, 1), (5, 5), (IMAGES, IMAGES), (99, IMAGES)])
def test_limit(
    limit: int,
    n: int,
    drafted: CopyBundle,
    pixels: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    known = read_manifest(drafted())["labels"]
    write(tmp_path / "data", pixels[:, ::7, ::5], (known[index % CLASSES] for index in range(IMAGES)))
    answer = validated("--data", "data", "--limit", str(limit), code=1)
    assert answer["reference"]["n"] == answer["artifacts"][0]["n"] == n


def test_images_of_the_calibration_set_are_refused(
    drafted: CopyBundle, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    bundle = drafted()
    write(tmp_path / "data", pixels[:4], [""] * 4)
    digests = [image_digest(np.ascontiguousarray(pixels[index].transpose(2, 0, 1))) for index in (1, 3, 5)]
    edit_manifest(bundle, lambda manifest: manifest.update(calibrations=[{"sha256": "a" * 64, "images": digests}]))
    shown = invoke("validate", "bundle", "--data", "data")
    assert shown.code == 2
    assert "2 of 4 images of data are in the calibration set aaaaaaaaaaaa" in shown.said
    assert shown.stdout == ""
    assert validated("--data", "data", "--limit", "1", code=1)["reference"]["n"] == 1


def test_failures_are_told_to_people_too(drafted: CopyBundle) -> None:
    drafted()
    shown = invoke("validate", "bundle", "--limit", "1")
    assert shown.code == 1
    assert "failed" in shown.stdout
    assert (
        f"cloformer_xxs-fp32.onnx: {validated('--limit', '1', code=1)['artifacts'][0]['failures'][0]}" in shown.stdout
    )
    assert "Error" not in shown.stderr


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_artifact_that_gives_no_numbers(value: float, drafted: CopyBundle) -> None:
    bundle = drafted()
    save(small_model(weight=value), bundle / "cloformer_xxs-fp32.onnx")
    relist(bundle)
    verdict = validated("--limit", "2", code=1)["artifacts"][0]
    assert verdict["status"] == "failed"
    assert verdict["n"] == 2
    assert verdict["agreement"] == 0
    assert [verdict[key] for key in ("max_abs_diff", "sqnr_db", "cosine_min")] == [None] * 3
    assert any("NaN" in failure for failure in verdict["failures"])
    assert invoke("validate", "bundle", "--limit", "2").code == 1


def test_artifact_whose_runtime_is_missing(drafted: CopyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    drafted()
    hide(monkeypatch, "onnxruntime")
    verdict = validated("--limit", "1", code=3)["artifacts"][0]
    assert verdict["status"] == "not_executed"
    assert verdict["n"] == 0
    assert verdict["agreement"] is None
    assert "onnxruntime" in verdict["failures"][0]
    shown = invoke("validate", "bundle", "--limit", "1")
    assert shown.code == 3
    assert "Next: pip install 'cloformer-deploy[onnx]'" in shown.said


def test_bundle_without_artifacts_is_no_success(drafted: CopyBundle) -> None:
    """An interrupted re-export may leave one behind: nothing was checked, so nothing passed."""
    edit_manifest(drafted(), lambda manifest: manifest.update(artifacts=[]))
    assert invoke("validate", "bundle", "--limit", "1").code != 0
