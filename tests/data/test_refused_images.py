"""Files that are rejected: other formats, damaged images and too large ones."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, features

from cloformer_deploy.data import decoding as module
from cloformer_deploy.data import load_image
from cloformer_deploy.errors import DataError
from tests.data.image_files import NOISE, SMALL, encoded, png_claiming, refusal, save

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("kind", ["EPS", "ICO", "PPM", "TGA", "JPEG2000"])
def test_other_formats_are_refused_whatever_their_name(tmp_path: Path, kind: str) -> None:
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this Pillow writes no JPEG 2000")
    path = tmp_path / "a.png"
    path.write_bytes(encoded(kind, Image.new("RGB", (64, 32))))
    assert "is no image of a kind that is read (JPEG, PNG, " in refusal(path).message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"hello, world\n" * 9,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"RIFF\0\0\0\0WAVEfmt ",
    ],
)
def test_files_that_are_no_images(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert "is no image of a kind that is read (JPEG, PNG, " in refusal(path).message


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBP"])
def test_a_right_beginning_is_not_enough(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(start + b"nothing that belongs here")
    assert "cannot be decoded" in refusal(path).message


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    refusal(tmp_path / "missing.jpg")
    (tmp_path / "folder.jpg").mkdir()
    refusal(tmp_path / "folder.jpg")


EXIF = Image.Exif()
EXIF[0x0112] = 6
EXIF[0x010F] = "a maker of cameras"
DAMAGEABLE = {
    kind: encoded(kind, Image.fromarray(NOISE[..., :3]), exif=EXIF, **options)
    for kind, options in {"JPEG": {"progressive": True}, "PNG": {}, "WEBP": {}}.items()
}


def outcome(folder: Path, content: bytes) -> NDArray[np.uint8] | None:
    """Return the image, or None if it is rejected with a DataError; any other error fails the test."""
    path = folder / "damaged.jpg"
    path.write_bytes(content)
    try:
        pixels = load_image(path, SMALL)
    except DataError:
        return None
    assert pixels.shape == (3, 32, 64)
    assert pixels.dtype == np.uint8
    return pixels


@pytest.mark.parametrize("kind", DAMAGEABLE)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_image_is_refused_or_whole(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    whole = DAMAGEABLE[kind]
    cut = data.draw(st.integers(0, len(whole) - 1))
    found = outcome(tmp_path, whole[:cut])
    if found is not None:  # only an end marker is missing
        assert cut >= len(whole) - 16
        undamaged = outcome(tmp_path, whole)
        assert undamaged is not None
        assert np.array_equal(found, undamaged)


@pytest.mark.parametrize("kind", DAMAGEABLE)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_image_is_refused_or_an_image(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    damaged = bytearray(DAMAGEABLE[kind])
    places = st.one_of(st.integers(0, 200), st.integers(0, len(damaged) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)):
        damaged[place] = value
    outcome(tmp_path, bytes(damaged))


# Large images


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (10_001, 10_000), (2**31 - 1, 1), (1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(width, height))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = refusal(path)
    assert "100,000,000" in error.message
    assert not caught


def test_a_large_image_is_refused_by_its_own_size(tmp_path: Path) -> None:
    """Pillow's own functions warn at 90 million pixels; here only the missing rows are an error."""
    path = tmp_path / "large.png"
    path.write_bytes(png_claiming(9_500, 9_500))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = refusal(path)
    assert "cannot be decoded" in error.message
    assert "100,000,000" not in error.message
    assert not caught


def test_the_limit_is_the_pixels_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Image.new("RGB", (64, 32)), tmp_path / "a.png")
    monkeypatch.setattr(module, "MAX_PIXELS", 64 * 32)
    load_image(path, SMALL)
    monkeypatch.setattr(module, "MAX_PIXELS", 64 * 32 - 1)
    assert "64 x 32" in refusal(path).message
