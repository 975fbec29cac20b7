"""Features are judged map by map: none hides another, whatever their scales."""

from pathlib import Path

import numpy as np
import pytest

from cloformer_deploy.data import Preprocessing
from cloformer_deploy.tasks import TASKS, Outputs
from cloformer_deploy.tasks.distances import distance_bytes, image_distances, summarize
from cloformer_deploy.tasks.features import LEAST_DB, MAPS, Features
from tests.data.image_files import red_image

TASK = Features()


def pyramid(seed: int, n: int = 4, scales: tuple[float, ...] = (1, 1, 1, 1)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    sides = (16, 8, 4, 2)
    return {
        spec.name: (scale * rng.standard_normal((n, 8, side, side))).astype(np.float32)
        for spec, side, scale in zip(MAPS, sides, scales, strict=True)
    }


def agreement(expected: Outputs, found: Outputs) -> float:
    return TASK.compare(TASK.evidence(expected, expected), TASK.evidence(found, expected), None).agreement


def sqnr_db(expected: Outputs, found: Outputs) -> float:
    rows = image_distances(expected, found, MAPS)
    assert {len(row) for row in rows} == {distance_bytes(MAPS)}
    found_db = summarize(rows).sqnr_db
    assert found_db is not None
    return found_db


def test_it_is_registered_and_has_no_metric() -> None:
    assert TASKS["features"].outputs == MAPS
    assert [spec.name for spec in MAPS] == ["c2", "c3", "c4", "c5"]
    assert TASKS["features"].metric is None
    assert all("drop_pp" not in TASK.thresholds(item) for item in ("fp32", "fp16", "int8", "w8", "w8a16", "p8", "p6"))


@pytest.mark.parametrize("spoiled", [spec.name for spec in MAPS])
@pytest.mark.parametrize("scales", [(1, 1, 1, 1), (1000, 1, 1, 0.001)])
def test_one_wrong_map_is_enough(spoiled: str, scales: tuple[float, ...]) -> None:
    expected = pyramid(0, scales=scales)
    found = expected | {spoiled: np.zeros_like(expected[spoiled])}
    assert agreement(expected, expected) == 1
    assert agreement(expected, found) == 0
    assert sqnr_db(expected, found) == pytest.approx(0, abs=1e-6)
    assert [spoiled in text for text in TASK.diagnose(expected, found, None)] == [True]


def test_the_limit_of_agreement_is_that_of_each_map() -> None:
    expected = pyramid(0)
    for factor, agreeing in ((0.99, 1.0), (1.01, 0.0)):
        noise = factor * 10 ** (-LEAST_DB / 20)
        assert agreement(expected, expected | {"c4": expected["c4"] * np.float32(1 + noise)}) == agreeing


def test_nan_never_agrees() -> None:
    expected = pyramid(0)
    broken = expected["c3"].copy()
    broken[1, 0, 0, 0] = np.nan
    assert agreement(expected, expected | {"c3": broken}) == 0.75


def test_a_sound_file_is_not_diagnosed() -> None:
    expected = pyramid(0)
    assert list(TASK.diagnose(expected, expected, None)) == []


def test_images_of_any_folder_without_labels(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/deeper/y.png", "b/z.png"):
        red_image(tmp_path / name)
    images = TASK.open_data(tmp_path, 0, None)
    assert (len(images), images.labels) == (3, None)
    rendered = TASK.open_data(None, 0, None)
    assert rendered.labels is None
    assert rendered.load(0, Preprocessing.published(64, 64)).shape == (3, 64, 64)
