"""Image files of every kind that is read, told by their content."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cloformer_deploy.data import decoding
from cloformer_deploy.data.decoding import decode, is_image, is_unread_image
from cloformer_deploy.errors import DataError

PIXELS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
LOSSLESS = ("PNG", "BMP", "TIFF", "WebP")
SAVED_AS = {"JPEG": "JPEG", "PNG": "PNG", "WebP": "WEBP", "BMP": "BMP", "GIF": "GIF", "TIFF": "TIFF", "AVIF": "AVIF"}


def save(path: Path, kind: str, image: Image.Image | None = None, **options: object) -> Path:
    buffer = io.BytesIO()
    chosen = Image.fromarray(PIXELS) if image is None else image
    if kind == "WebP":
        options["lossless"] = True
    chosen.save(buffer, SAVED_AS[kind], **options)
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize("kind", SAVED_AS)
def test_kinds_are_told_by_content(kind: str, tmp_path: Path) -> None:
    found = decode(save(tmp_path / "a.jpg", kind))
    assert (found.mode, found.size) == ("RGB", (24, 16))
    if kind in LOSSLESS:
        np.testing.assert_array_equal(np.asarray(found), PIXELS)
    else:
        assert np.asarray(found).std() > 10


def test_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pillow_heif

    path = tmp_path / "a.heic"
    flat = Image.new("RGB", (64, 64), (200, 60, 30))
    pillow_heif.from_pillow(flat).save(path, quality=90)
    assert np.abs(np.asarray(decode(path), np.int32) - (200, 60, 30)).max() < 16
    assert is_image(path)
    monkeypatch.setattr(decoding, "_HEIF_PACKAGE", "no_such_package")
    assert not is_image(path)
    assert is_unread_image(path)
    with pytest.raises(DataError, match="pillow-heif is needed") as caught:
        decode(path)
    assert caught.value.hint == "pip install pillow-heif"


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    found = decode(save(tmp_path / "a.gif", "GIF", frames[0], save_all=True, append_images=frames[1:]))
    assert found.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["text", "profile"])
def test_large_metadata_is_passed_over(kind: str, tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("workflow", "x" * 2_000_000, zip=True)
    options = {"pnginfo": text} if kind == "text" else {"icc_profile": bytes(2_000_000)}
    np.testing.assert_array_equal(np.asarray(decode(save(tmp_path / "a.png", "PNG", **options))), PIXELS)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="floating-point"):
        decode(save(tmp_path / "a.tif", "TIFF", Image.fromarray(PIXELS[..., 0].astype(np.float32))))


@pytest.mark.parametrize(
    ("name", "read", "unread"),
    [
        ("a.JPG", True, False),
        ("a.jfif", True, False),
        ("a.tiff", True, False),
        ("a.svg", False, True),
        ("a.CR2", False, True),
        ("a.txt", False, False),
        ("a", False, False),
    ],
)
def test_kinds_by_name(name: str, read: bool, unread: bool) -> None:
    assert (is_image(Path(name)), is_unread_image(Path(name))) == (read, unread)
