"""The rendered task as a source: rendered once, tied to its version, whole or not at all."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloformer_deploy.data.rendered import SIZE, VERSION, label, render
from cloformer_deploy.data.rendered.scenes import render_scene
from tools.training import rendered as module
from tools.training.rendered import IMAGES, SCENES, RenderedSource

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)


def files(cache: Path) -> dict[str, int]:
    return {path.relative_to(cache).as_posix(): path.stat().st_mtime_ns for path in cache.rglob("*.npy")}


def test_images_are_those_of_the_task(tmp_path: Path) -> None:
    source = RenderedSource("train", 6, tmp_path)
    assert len(source) == 6
    for index in (0, 5):
        image, number = source[index]
        assert np.array_equal(np.asarray(image), render("train", index))
        assert number == (source.labels or ())[index] == label(index)
    with pytest.raises(IndexError):
        source[6]


def test_scenes_have_masks(tmp_path: Path) -> None:
    source = RenderedSource("train", 2, tmp_path, SCENES)
    assert source.labels is None
    image, mask = source[1]
    scene = render_scene("train", 1)
    assert np.array_equal(np.asarray(image), scene.pixels)
    assert np.array_equal(np.asarray(mask), scene.mask)


def test_what_was_rendered_is_kept_and_what_is_missing_or_cut_short_is_rendered_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RenderedSource("train", 6, tmp_path)
    whole, partial = f"rendered-v{VERSION}/train/000000-000004.npy", f"rendered-v{VERSION}/train/000004-000006.npy"
    before = files(tmp_path)
    assert set(before) == {whole, partial}
    (tmp_path / partial).write_bytes((tmp_path / partial).read_bytes()[:-1])
    assert "rendered 6 of 6" in capsys.readouterr().err
    source = RenderedSource("train", 6, tmp_path)
    assert files(tmp_path)[whole] == before[whole]
    assert np.array_equal(np.asarray(source[5][0]), render("train", 5))


def test_splits_counts_and_versions_are_told_apart(tmp_path: Path) -> None:
    identities = {RenderedSource(split, count, tmp_path).identity for split in ("train", "test") for count in (1, 2)}
    before = files(tmp_path)
    later = replace(IMAGES, name="rendered-v2", title="rendered task version 2")
    identities.add(RenderedSource("train", 1, tmp_path, later).identity)
    assert len(identities) == 5
    assert len(files(tmp_path)) == len(before) + 1


def test_a_process_that_is_spawned_gets_the_place_of_the_images_not_the_images(tmp_path: Path) -> None:
    source = RenderedSource("train", 2, tmp_path)
    source[0]
    sent = pickle.dumps(source)
    assert len(sent) < SIZE * SIZE
    assert np.array_equal(np.asarray(pickle.loads(sent)[1][0]), render("train", 1))
