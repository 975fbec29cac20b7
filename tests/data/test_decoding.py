"""Color modes, orientations and animations, compared with numpy's computation from the values that were written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data import load_image
from tests.data.image_files import GRAY, NOISE, RNG, SMALL, chw, encoded, png, save


def palette_image(transparency: bytes | int | None) -> tuple[Image.Image, dict[str, Any], NDArray[np.uint8]]:
    palette = RNG.integers(0, 256, (256, 3), np.uint8)
    image = Image.fromarray(GRAY).copy()
    image.putpalette(palette.tobytes())
    return image, {} if transparency is None else {"transparency": transparency}, palette[GRAY]


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256)), b"\x00\x80"])
def test_palettes_with_and_without_transparency(tmp_path: Path, transparency: bytes | int | None) -> None:
    image, options, expected = palette_image(transparency)
    path = save(image, tmp_path / "a.png", **options)
    with Image.open(path) as stored:
        assert stored.mode == "P"
        assert ("transparency" in stored.info) == (transparency is not None)
    assert np.array_equal(load_image(path, SMALL), chw(expected))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "1", "RGB with a transparent color", "L with a transparent gray"])
def test_gray_alpha_and_bilevel(tmp_path: Path, mode: str) -> None:
    gray = np.repeat(GRAY[..., None], 3, axis=2)
    made: dict[str, tuple[Image.Image, dict[str, Any], NDArray[Any]]] = {
        "L": (Image.fromarray(GRAY), {}, gray),
        "LA": (Image.fromarray(NOISE[..., :2]), {}, gray),
        "RGBA": (Image.fromarray(NOISE), {}, NOISE[..., :3]),
        "1": (Image.fromarray(GRAY > 127), {}, np.where(gray > 127, 255, 0)),
        "RGB with a transparent color": (Image.fromarray(NOISE[..., :3]), {"transparency": (1, 2, 3)}, NOISE[..., :3]),
        "L with a transparent gray": (Image.fromarray(GRAY), {"transparency": 7}, gray),
    }
    image, options, expected = made[mode]
    assert np.array_equal(load_image(save(image, tmp_path / "a.png", **options), SMALL), chw(expected))


def test_16_bit_grayscale_keeps_its_high_bits(tmp_path: Path) -> None:
    values = RNG.integers(0, 2**16, (32, 64)).astype(np.uint16)
    path = save(Image.fromarray(values), tmp_path / "a.png")
    with Image.open(path) as stored:
        assert stored.mode == "I;16"
    assert np.array_equal(load_image(path, SMALL), chw(np.repeat((values >> 8)[..., None], 3, axis=2)))


def test_16_bit_color_keeps_its_high_bits(tmp_path: Path) -> None:
    values = RNG.integers(0, 2**16, (32, 64, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    path = tmp_path / "a.png"
    path.write_bytes(png(64, 32, 16, 2, rows))
    assert np.array_equal(load_image(path, SMALL), chw((values >> 8).astype(np.uint8)))


def test_cmyk_jpeg(tmp_path: Path) -> None:
    inks = np.zeros((32, 64, 4), np.uint8)
    inks[:, :32, 0] = 255  # cyan
    inks[:, 32:, 3] = 255  # black
    path = save(Image.fromarray(inks, "CMYK"), tmp_path / "a.jpg", quality=100)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
    pixels = load_image(path, SMALL).astype(int)
    assert np.abs(pixels[:, 8, 8] - [0, 255, 255]).max() <= 3
    assert np.abs(pixels[:, 8, 56]).max() <= 3


def test_gray_jpeg(tmp_path: Path) -> None:
    path = save(Image.new("L", (64, 32), 77), tmp_path / "a.jpg")
    assert np.array_equal(load_image(path, SMALL), np.full((3, 32, 64), 77))


UPRIGHT: dict[int, Any] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_exif_orientation_is_applied_before_the_size_is_looked_at(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    turned = orientation >= 5
    stored = RNG.integers(0, 256, (64, 32, 3) if turned else (32, 64, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(Image.fromarray(stored), tmp_path / f"a{suffix}", exif=exif, **options)
    assert np.array_equal(load_image(path, SMALL), chw(UPRIGHT[orientation](stored)))


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.fromarray(NOISE[..., :3].swapaxes(0, 1)), tmp_path / "a.jpg", exif=exif)
    with Image.open(path) as image:
        expected = np.rot90(np.asarray(image), -1)
    assert np.array_equal(load_image(path, SMALL), chw(expected))


@pytest.mark.parametrize(("suffix", "kind"), [(".webp", "WEBP"), (".png", "PNG")])
def test_the_first_frame_of_an_animation_is_used(tmp_path: Path, suffix: str, kind: str) -> None:
    frames = [Image.new("RGB", (64, 32), color) for color in ("red", "blue", "lime")]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    path = save(frames[0], tmp_path / f"a{suffix}", format=kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as stored:
        assert getattr(stored, "n_frames", 1) == 3
    assert np.array_equal(load_image(path, SMALL)[:, 0, 0], [255, 0, 0])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_format_is_told_by_the_content_not_by_the_name(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(kind, Image.new("RGB", (64, 32), (200, 10, 10))))
    assert load_image(path, SMALL).shape == (3, 32, 64)
