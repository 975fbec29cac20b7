"""Reading calibration sets: the bundled one, files, and files that are rejected."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from cloformer_deploy.data import (
    CalibrationSet,
    ImageSet,
    Preprocessing,
    bundled_calibration,
    image_digest,
    make_calibration,
    open_calibration,
)
from cloformer_deploy.data.calibration import RELIABLE_COUNT, bundled_of, fitting_bundled, rendered_calibration
from cloformer_deploy.data.rendered import CLASSES, SCENE_CLASSES, SIZE, label, render, render_scene
from cloformer_deploy.errors import DataError
from cloformer_deploy.progress import Silent

SMALL = Preprocessing.published(32, 64)
COUNT = 5


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a set of five rendered images."""
    path = tmp_path_factory.mktemp("made") / "set.safetensors"
    make_calibration("rendered", COUNT, 1, SMALL, path, Silent())
    return path.read_bytes()


@pytest.fixture
def file(original: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "set.safetensors"
    path.write_bytes(original)
    return path


def all_pixels(images: CalibrationSet, size: int) -> NDArray[np.uint8]:
    return np.concatenate([batch.pixels for batch in images.batches(images.preprocessing, size)])


def parts(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return the header without the manifest, the manifest, and the pixels."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    return header, json.loads(header["__metadata__"].pop("manifest")), content[end:]


def joined(header: dict[str, Any], manifest: object, pixels: bytes) -> bytes:
    header["__metadata__"]["manifest"] = manifest if isinstance(manifest, str) else json.dumps(manifest)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + pixels


# Reading


def test_the_file_is_safetensors(file: Path) -> None:
    with safe_open(file, "numpy") as opened:
        pixels = opened.get_tensor("pixels")
        manifest = json.loads(opened.metadata()["manifest"])
        assert list(opened.keys()) == ["pixels"]
    assert (pixels.dtype, pixels.shape) == (np.uint8, (COUNT, 3, 32, 64))
    assert manifest["sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert manifest["images"] == [hashlib.sha256(one.tobytes()).hexdigest()[:16] for one in pixels]
    assert manifest["source"] == "rendered calibration 5-9"
    assert manifest["preprocessing"] == json.loads(SMALL.model_dump_json())
    assert (manifest["schema_version"], manifest["n"], manifest["seed"]) == (1, COUNT, 1)
    assert manifest["classes"] == dict.fromkeys(["checkerboard", "clock", "crescent", "dartboard", "fish"], 1)


@pytest.mark.parametrize("size", [1, 2, COUNT, 100])
def test_a_file_is_streamed_in_order(file: Path, size: int) -> None:
    images: ImageSet = open_calibration(file)
    batches = list(images.batches(SMALL, size))
    assert all(batch.labels is None for batch in batches)
    assert [len(batch.pixels) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    expected = [batch.pixels for batch in rendered_calibration("rendered", COUNT, 1).batches(SMALL, COUNT)]
    assert np.array_equal(np.concatenate([batch.pixels for batch in batches]), np.concatenate(expected))


def test_the_manifest_of_a_file(file: Path) -> None:
    opened = open_calibration(file)
    assert (opened.name, len(opened), opened.n, opened.seed) == (str(file), COUNT, COUNT, 1)
    assert opened.preprocessing == SMALL
    assert opened.bundled is None
    pixels = all_pixels(opened, 2)
    assert opened.sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert opened.image_digests == tuple(image_digest(image) for image in pixels)
    (warning,) = opened.warnings
    assert f"{COUNT} images are unreliable" in warning


def test_the_digest_of_an_image_is_of_its_pixels_in_their_order() -> None:
    turned = np.arange(24, dtype=np.uint8).reshape(2, 4, 3).transpose(2, 0, 1)
    assert not turned.flags.c_contiguous
    assert image_digest(turned) == hashlib.sha256(turned.copy().tobytes()).hexdigest()[:16]


def test_the_bundled_set() -> None:
    shipped = bundled_calibration("rendered")
    assert shipped.bundled == "rendered"
    assert (shipped.name, shipped.n, shipped.seed) == ("rendered calibration 0-255", 256, 0)
    assert shipped.n >= RELIABLE_COUNT
    assert shipped.warnings == ()
    first = next(shipped.batches(Preprocessing.published(SIZE, SIZE), 2)).pixels
    assert np.array_equal(first[1].transpose(1, 2, 0), render("calibration", 1))
    assert shipped.image_digests[:2] == tuple(image_digest(image) for image in first)


def test_the_bundled_scenes() -> None:
    shipped = bundled_calibration("scenes")
    assert (shipped.name, shipped.n, shipped.seed) == ("rendered scenes calibration 0-255", 256, 0)
    first = next(shipped.batches(Preprocessing.published(SIZE, SIZE, margin=False), 2)).pixels
    assert np.array_equal(first[1].transpose(1, 2, 0), render_scene("calibration", 1).pixels)
    assert shipped.image_digests[:2] == tuple(image_digest(image) for image in first)
    assert bundled_of(shipped.sha256) is shipped
    assert bundled_of("0" * 64) is None


@pytest.mark.parametrize(
    ("task", "labels", "name"),
    [
        ("classification", (CLASSES, None), "rendered"),
        ("segmentation", (None, SCENE_CLASSES), "scenes"),
        ("detection", (CLASSES, None), "scenes"),
        ("features", (None, CLASSES), "rendered"),
        ("features", (None, SCENE_CLASSES), "scenes"),
        ("segmentation", (CLASSES, None), None),
        ("classification", (None, None), None),
    ],
)
def test_weights_get_the_set_of_their_task_and_labels(
    task: str, labels: tuple[tuple[str, ...] | None, ...], name: str | None
) -> None:
    assert fitting_bundled(task, *labels) == name


@pytest.mark.integration
def test_the_bundled_set_is_what_calibrate_rendered_makes(tmp_path: Path) -> None:
    shipped = bundled_calibration("rendered")
    made = make_calibration("rendered", 256, 0, shipped.preprocessing, tmp_path / "set", Silent())
    assert made.calibration.manifest == shipped.manifest
    assert hashlib.sha256(all_pixels(shipped, 16).tobytes()).hexdigest() == shipped.sha256


def test_rendered_sets_are_balanced_and_disjoint() -> None:
    sets = [rendered_calibration("rendered", 256, seed) for seed in (0, 1)]
    for images in sets:
        counts = np.bincount([label(index) for index in images.indices], minlength=20)
        assert counts.max() - counts.min() <= 1
    assert not set(sets[0].indices) & set(sets[1].indices)


# Rejected


def test_another_input_size_is_told_the_command(file: Path) -> None:
    for images, argument in ((open_calibration(file), "IMAGES"), (bundled_calibration("rendered"), "rendered")):
        with pytest.raises(DataError, match="height") as caught:
            images.batches(Preprocessing.published(256, 192), 4)
        assert f"cloformer-deploy calibrate {argument} --input-size 256x192 --output FILE" in caught.value.hint


def test_a_set_with_a_margin_is_told_how_to_leave_it_out(file: Path) -> None:
    whole = Preprocessing.published(SMALL.height, SMALL.width, "RGBA", margin=False)
    with pytest.raises(DataError) as caught:
        open_calibration(file).batches(whole, 4)
    assert f"--input-size {SMALL.height}x{SMALL.width} --color RGBA --whole --output FILE" in caught.value.hint


def test_another_normalization(file: Path) -> None:
    with pytest.raises(DataError, match="mean"):
        open_calibration(file).batches(SMALL.model_copy(update={"mean": (0.5, 0.5, 0.5)}), 4)


def raw(content: bytes) -> Callable[[bytes], bytes]:
    return lambda _: content


def in_manifest(**changes: object) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        header, manifest, pixels = parts(content)
        return joined(header, {**manifest, **changes}, pixels)

    return damage


def in_tensor(**changes: object) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        header, manifest, pixels = parts(content)
        header["pixels"].update(changes)
        return joined(header, manifest, pixels)

    return damage


def with_tensor(content: bytes) -> bytes:
    header, manifest, pixels = parts(content)
    header["more\x1b[31m" + "x" * 5000] = header["pixels"]
    return joined(header, manifest, pixels)


def with_text(text: str) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        header, _, pixels = parts(content)
        return joined(header, text, pixels)

    return damage


HUGE = 2**40
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": raw(b""),
    "text": raw(b"hello, world\n" * 9),
    "an image": raw(b"\x89PNG\r\n\x1a\n" + bytes(99)),
    "header cut": lambda content: content[:100],
    "pixels cut": lambda content: content[:-1],
    "bytes too many": lambda content: content + b"\0",
    "header too long": lambda content: HUGE.to_bytes(8, "little") + content[8:],
    "header not JSON": lambda content: content[:8] + b"[" + content[9:],
    "header not UTF-8": lambda content: content[:20] + b"\xff" + content[21:],
    "header nested deeply": raw((5000).to_bytes(8, "little") + b"[" * 5000),
    "header a list": raw((2).to_bytes(8, "little") + b"[]"),
    "no tensor": raw((2).to_bytes(8, "little") + b"{}"),
    "another tensor": with_tensor,
    "floats": in_tensor(dtype="F32"),
    "shape of three": in_tensor(shape=[5, 32, 64]),
    "a side of 4000 digits": in_tensor(shape=[5, 3, 32, 10**4000]),
    "another shape": in_tensor(shape=[5, 3, 64, 32]),
    "offset": in_tensor(data_offsets=[1, 5 * 3 * 32 * 64 + 1]),
    "too few offsets": in_tensor(data_offsets=[0, 5 * 3 * 32 * 64 - 1]),
    "manifest not JSON": with_text("no JSON"),
    "manifest empty": with_text("{}"),
    "manifest a number": with_text("1e999"),
    "of a later version": in_manifest(schema_version=2),
    "n": in_manifest(n=COUNT - 1),
    "huge n": in_manifest(n=10**30),
    "no images": in_manifest(n=0, images=[]),
    "negative seed": in_manifest(seed=-1),
    "digests missing": in_manifest(images=["0" * 16] * (COUNT - 1)),
    "digests of another form": in_manifest(images=["X" * 16] * COUNT),
    "sha256 of another form": in_manifest(sha256="0"),
    "more in classes than there are": in_manifest(classes={"a": COUNT + 1}),
    "unknown key": in_manifest(code="import os"),
    "preprocessing": in_manifest(preprocessing={"height": 32, "width": 64}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_malformed_file(damage: str, original: bytes, file: Path) -> None:
    file.write_bytes(DAMAGES[damage](original))
    with pytest.raises(DataError) as caught:
        open_calibration(file)
    assert str(file) in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500
    assert "calibrate" in caught.value.hint


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", tmp_path / "missing" / "deeper"):
        with pytest.raises(DataError, match=r"No such file|not a file"):
            open_calibration(path)


@pytest.mark.parametrize("place", range(COUNT))
def test_a_changed_pixel_is_found_when_its_batch_is_reached(place: int, original: bytes, file: Path) -> None:
    damaged = bytearray(original)
    damaged[len(original) - 1 - place * 3 * 32 * 64] ^= 1
    file.write_bytes(damaged)
    batches = open_calibration(file).batches(SMALL, 2)
    wrong = COUNT - 1 - place
    for _ in range(wrong // 2):
        next(batches)
    with pytest.raises(DataError, match=f"image {wrong} does not match its digest in the manifest"):
        next(batches)


def test_a_sha256_that_does_not_fit(original: bytes, file: Path) -> None:
    file.write_bytes(in_manifest(sha256="0" * 64)(original))
    with pytest.raises(DataError, match="the pixels do not match their digest in the manifest"):
        all_pixels(open_calibration(file), 2)


def test_a_file_cut_short_while_it_is_read(original: bytes, file: Path) -> None:
    batches = open_calibration(file).batches(SMALL, 2)
    next(batches)
    os.truncate(file, len(original) - 1)
    next(batches)
    with pytest.raises(DataError, match="truncated while it was read"):
        next(batches)


def test_a_file_that_becomes_another(original: bytes, file: Path) -> None:
    opened = open_calibration(file)
    make_calibration("rendered", COUNT + 1, 0, SMALL, file, Silent())
    with pytest.raises(DataError, match="image 0"):
        all_pixels(opened, 2)
    shorter = file.with_name("shorter")
    header, manifest, pixels = parts(original)
    image = len(pixels) // COUNT
    header["pixels"].update(shape=[1, 3, 32, 64], data_offsets=[0, image])
    manifest.update(n=1, images=manifest["images"][:1], classes=None)
    shorter.write_bytes(joined(header, manifest, pixels[:image]))
    opened = open_calibration(shorter)
    shorter.write_bytes(original)
    with pytest.raises(DataError, match="image 1"):
        all_pixels(opened, 2)


def test_a_file_that_goes_away(file: Path) -> None:
    opened = open_calibration(file)
    file.unlink()
    with pytest.raises(DataError, match="No such file"):
        next(opened.batches(SMALL, 2))
