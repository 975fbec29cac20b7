"""From a file to pixels: every kind of picture, every refusal, and the published resize."""

import io
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, features
from pydantic import ValidationError

from cloformer_deploy.data import Preprocessing, load_picture
from cloformer_deploy.data import preprocessing as module
from cloformer_deploy.errors import DataError, RequestError

SMALL = Preprocessing.published(32, 64)
SQUARE = Preprocessing.published(64, 64)
RNG = np.random.default_rng(0)
NOISE: NDArray[np.uint8] = RNG.integers(0, 256, (32, 64, 4), np.uint8)
GREY: NDArray[np.uint8] = NOISE[..., 0]


def chw(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels.transpose(2, 0, 1)


def save(picture: Image.Image, path: Path, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def encoded(kind: str, picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def refusal(path: Path, preprocessing: Preprocessing = SMALL) -> DataError:
    """The error of loading a file; every refusal names the file and has a hint."""
    with pytest.raises(DataError) as caught:
        load_picture(path, preprocessing)
    assert path.name in caught.value.message
    assert caught.value.hint
    return caught.value


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


# Taken as they are, or resized as published


@pytest.mark.parametrize(("suffix", "options"), [(".png", {}), (".webp", {"lossless": True})])
def test_a_picture_of_exactly_the_input_size_is_taken_as_it_is(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    path = save(Image.fromarray(NOISE[..., :3]), tmp_path / f"a{suffix}", **options)
    pixels = load_picture(path, SMALL)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 32, 64)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert np.array_equal(pixels, chw(NOISE[..., :3]))


def test_a_jpeg_of_exactly_the_input_size_is_what_the_decoder_gives(tmp_path: Path) -> None:
    path = save(Image.fromarray(NOISE[..., :3]), tmp_path / "a.jpeg", quality=90)
    with Image.open(path) as picture:
        expected = np.asarray(picture)
    assert np.array_equal(load_picture(path, SMALL), chw(expected))


def torchvision_eval(picture: Image.Image, size: int) -> NDArray[Any]:
    """Resize(int(256 / 224 * size), bicubic) and CenterCrop(size), as torchvision computes them."""
    short = int((256 / 224) * size)
    width, height = picture.size
    scaled = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    top, left = round((scaled[1] - size) / 2.0), round((scaled[0] - size) / 2.0)
    resized = picture.resize(scaled, Image.Resampling.BICUBIC)
    return chw(np.asarray(resized))[:, top : top + size, left : left + size]


# 129 x 101 and 75 x 100 tell rounding down from rounding, and rounding halves to even from rounding them down.
@pytest.mark.parametrize(
    "shape", [(65, 65), (100, 75), (75, 100), (500, 333), (20, 30), (64, 65), (129, 101), (75, 110)]
)
@pytest.mark.parametrize("size", [32, 64])
def test_square_inputs_get_the_published_evaluation(tmp_path: Path, shape: tuple[int, int], size: int) -> None:
    picture = Image.fromarray(RNG.integers(0, 256, (*shape, 3), np.uint8))
    path = save(picture, tmp_path / "a.png")
    assert np.array_equal(load_picture(path, Preprocessing.published(size, size)), torchvision_eval(picture, size))


@pytest.mark.parametrize("size", range(32, 2049, 32))
def test_the_published_resize_is_the_one_torchvision_scripts_compute(size: int) -> None:
    assert Preprocessing.published(size, size).resize.cover == (int((256 / 224) * size),) * 2


# Wider than 2:1, higher than 2:1, exactly 2:1, smaller than the input.
@pytest.mark.parametrize("shape", [(40, 200), (200, 40), (100, 200), (8, 9)])
def test_other_inputs_are_covered_and_cropped_at_the_centre(tmp_path: Path, shape: tuple[int, int]) -> None:
    height, width = shape
    picture = Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8))
    cover_height, cover_width = 36, 73  # 32 and 64 times 256 / 224
    if width / height >= cover_width / cover_height:
        scaled = (math.floor(cover_height * width / height), cover_height)
    else:
        scaled = (cover_width, math.floor(cover_width * height / width))
    left, top = round((scaled[0] - 64) / 2), round((scaled[1] - 32) / 2)
    expected = picture.resize(scaled, Image.Resampling.BICUBIC).crop((left, top, left + 64, top + 32))
    found = load_picture(save(picture, tmp_path / "a.png"), SMALL)
    assert found.shape == (3, 32, 64)
    assert np.array_equal(found, chw(np.asarray(expected)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([(32, 32), (32, 64), (96, 32)]))
def test_every_size_of_picture_gives_the_input_size(width: int, height: int, size: tuple[int, int]) -> None:
    fitted = module._fit(Image.new("RGB", (width, height), (10, 20, 30)), Preprocessing.published(*size))
    assert fitted.shape == (*size, 3)
    assert (fitted == (10, 20, 30)).all()  # nothing from outside the picture


def test_a_single_pixel_is_enough(tmp_path: Path) -> None:
    found = load_picture(save(Image.new("RGB", (1, 1), (9, 8, 7)), tmp_path / "a.png"), SMALL)
    assert np.array_equal(found, np.broadcast_to(np.array([[[9]], [[8]], [[7]]]), (3, 32, 64)))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_a_strip_that_cannot_be_scaled_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    path = save(Image.new("L", size), tmp_path / "strip.png")
    assert "too narrow" in refusal(path, Preprocessing.published(224, 224)).message


# Colour modes: what is expected is computed with numpy from the numbers written


def palette_picture(transparency: bytes | int | None) -> tuple[Image.Image, dict[str, Any], NDArray[np.uint8]]:
    palette = RNG.integers(0, 256, (256, 3), np.uint8)
    picture = Image.fromarray(GREY).copy()
    picture.putpalette(palette.tobytes())
    return picture, {} if transparency is None else {"transparency": transparency}, palette[GREY]


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256)), b"\x00\x80"])
def test_palettes_with_and_without_transparency(tmp_path: Path, transparency: bytes | int | None) -> None:
    picture, options, expected = palette_picture(transparency)
    path = save(picture, tmp_path / "a.png", **options)
    with Image.open(path) as stored:
        assert stored.mode == "P"
        assert ("transparency" in stored.info) == (transparency is not None)
    assert np.array_equal(load_picture(path, SMALL), chw(expected))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "1", "RGB with a transparent colour", "L with a transparent grey"])
def test_grey_alpha_and_bilevel(tmp_path: Path, mode: str) -> None:
    grey = np.repeat(GREY[..., None], 3, axis=2)
    made: dict[str, tuple[Image.Image, dict[str, Any], NDArray[Any]]] = {
        "L": (Image.fromarray(GREY), {}, grey),
        "LA": (Image.fromarray(NOISE[..., :2]), {}, grey),
        "RGBA": (Image.fromarray(NOISE), {}, NOISE[..., :3]),
        "1": (Image.fromarray(GREY > 127), {}, np.where(grey > 127, 255, 0)),
        "RGB with a transparent colour": (Image.fromarray(NOISE[..., :3]), {"transparency": (1, 2, 3)}, NOISE[..., :3]),
        "L with a transparent grey": (Image.fromarray(GREY), {"transparency": 7}, grey),
    }
    picture, options, expected = made[mode]
    assert np.array_equal(load_picture(save(picture, tmp_path / "a.png", **options), SMALL), chw(expected))


def test_16_bit_greyscale_keeps_its_high_bits(tmp_path: Path) -> None:
    values = RNG.integers(0, 2**16, (32, 64)).astype(np.uint16)
    path = save(Image.fromarray(values), tmp_path / "a.png")
    with Image.open(path) as stored:
        assert stored.mode == "I;16"
    assert np.array_equal(load_picture(path, SMALL), chw(np.repeat((values >> 8)[..., None], 3, axis=2)))


def test_16_bit_colour_keeps_its_high_bits(tmp_path: Path) -> None:
    values = RNG.integers(0, 2**16, (32, 64, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 64, 32, 16, 2, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert np.array_equal(load_picture(path, SMALL), chw((values >> 8).astype(np.uint8)))


def test_cmyk_jpeg(tmp_path: Path) -> None:
    inks = np.zeros((32, 64, 4), np.uint8)
    inks[:, :32, 0] = 255  # cyan
    inks[:, 32:, 3] = 255  # black
    path = save(Image.fromarray(inks, "CMYK"), tmp_path / "a.jpg", quality=100)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
    pixels = load_picture(path, SMALL).astype(int)
    assert np.abs(pixels[:, 8, 8] - [0, 255, 255]).max() <= 3
    assert np.abs(pixels[:, 8, 56]).max() <= 3


def test_grey_jpeg(tmp_path: Path) -> None:
    path = save(Image.new("L", (64, 32), 77), tmp_path / "a.jpg")
    assert np.array_equal(load_picture(path, SMALL), np.full((3, 32, 64), 77))


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
    assert np.array_equal(load_picture(path, SMALL), chw(UPRIGHT[orientation](stored)))


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.fromarray(NOISE[..., :3].swapaxes(0, 1)), tmp_path / "a.jpg", exif=exif)
    with Image.open(path) as picture:
        expected = np.rot90(np.asarray(picture), -1)
    assert np.array_equal(load_picture(path, SMALL), chw(expected))


@pytest.mark.parametrize(("suffix", "kind"), [(".webp", "WEBP"), (".png", "PNG")])
def test_of_an_animation_the_first_picture_counts(tmp_path: Path, suffix: str, kind: str) -> None:
    frames = [Image.new("RGB", (64, 32), colour) for colour in ("red", "blue", "lime")]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    path = save(frames[0], tmp_path / f"a{suffix}", format=kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as stored:
        assert getattr(stored, "n_frames", 1) == 3
    assert np.array_equal(load_picture(path, SMALL)[:, 0, 0], [255, 0, 0])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_content_counts_not_the_name(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(kind, Image.new("RGB", (64, 32), (200, 10, 10))))
    assert load_picture(path, SMALL).shape == (3, 32, 64)


# Refused


@pytest.mark.parametrize("kind", ["GIF", "EPS", "TIFF", "BMP", "ICO", "PPM", "TGA", "JPEG2000"])
def test_other_formats_are_refused_whatever_their_name(tmp_path: Path, kind: str) -> None:
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this Pillow writes no JPEG 2000")
    path = tmp_path / "a.png"
    path.write_bytes(encoded(kind, Image.new("RGB", (64, 32))))
    assert "not a JPEG, PNG or WebP" in refusal(path).message


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
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert "not a JPEG, PNG or WebP" in refusal(path).message


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
    """The picture, or None if refused; any other outcome is a failure of the test."""
    path = folder / "damaged.jpg"
    path.write_bytes(content)
    try:
        pixels = load_picture(path, SMALL)
    except DataError:
        return None
    assert pixels.shape == (3, 32, 64)
    assert pixels.dtype == np.uint8
    return pixels


@pytest.mark.parametrize("kind", DAMAGEABLE)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_picture_is_refused_or_whole(tmp_path: Path, kind: str, data: st.DataObject) -> None:
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
def test_a_damaged_picture_is_refused_or_a_picture(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    damaged = bytearray(DAMAGEABLE[kind])
    places = st.one_of(st.integers(0, 200), st.integers(0, len(damaged) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)):
        damaged[place] = value
    outcome(tmp_path, bytes(damaged))


# Large pictures


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (10_001, 10_000), (2**31 - 1, 1), (1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(width, height))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = refusal(path)
    assert "100,000,000" in error.message
    assert not caught


def test_a_large_picture_is_refused_by_its_own_size(tmp_path: Path) -> None:
    """Of 90 million pixels Pillow itself would warn; here only the missing rows are wrong."""
    path = tmp_path / "large.png"
    path.write_bytes(png_claiming(9_500, 9_500))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = refusal(path)
    assert "cannot be decoded" in error.message
    assert "100,000,000" not in error.message
    assert not caught


def test_the_limit_is_the_pixels_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Image.new("RGB", (64, 32)), tmp_path / "a.png")
    monkeypatch.setattr(module, "MAX_PIXELS", 64 * 32)
    load_picture(path, SMALL)
    monkeypatch.setattr(module, "MAX_PIXELS", 64 * 32 - 1)
    assert "64 x 32" in refusal(path).message


# The model of the preprocessing


@pytest.mark.parametrize(
    ("height", "width", "named", "nearest"),
    [
        (225, 224, "height 225", "224"),
        (224, 250, "width 250", "256"),
        (0, 224, "height 0", "32"),
        (-224, 224, "height -224", "32"),
        (224, 2049, "width 2049", "2048"),
        (224, 2080, "width 2080", "2048"),
        (224, 10**30, "width 1000", "2048"),
        (31, 32, "height 31", "32"),
    ],
)
def test_an_impossible_input_size_names_the_nearest(height: int, width: int, named: str, nearest: str) -> None:
    with pytest.raises(RequestError) as caught:
        Preprocessing.published(height, width)
    assert named in caught.value.message
    assert caught.value.hint == f"the nearest that works is {nearest}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("side", [32, 224, 2048])
def test_the_limits_of_the_input_size_work(side: int) -> None:
    assert Preprocessing.published(side, side).height == side


def test_the_published_numbers() -> None:
    assert Preprocessing.published(224, 224).model_dump() == {
        "height": 224,
        "width": 224,
        "color": "RGB",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "resize": {
            "cover": (256, 256),
            "interpolation": "bicubic",
            "crop": "center",
            "skipped_at_exact_size": True,
        },
    }


WRONG: dict[str, dict[str, Any]] = {
    "mean not a number": {"mean": (0.5, math.nan, 0.5)},
    "mean infinite": {"mean": (math.inf, 0.5, 0.5)},
    "std zero": {"std": (0.2, 0.0, 0.2)},
    "std negative": {"std": (0.2, 0.2, -0.1)},
    "std not a number": {"std": (math.nan, 0.2, 0.2)},
    "two means": {"mean": (0.5, 0.5)},
    "extra field": {"gamma": 2.2},
    "extra field in resize": {"resize": {"cover": (256, 256), "antialias": True}},
    "another colour order": {"color": "BGR"},
    "another interpolation": {"resize": {"cover": (256, 256), "interpolation": "nearest"}},
    "cover smaller than the input": {"resize": {"cover": (256, 223)}},
    "cover absurdly large": {"resize": {"cover": (256, 10**400)}},
    "height no multiple of 32": {"height": 100},
    "width too large": {"width": 4096},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_unusable_preprocessing_is_refused(change: dict[str, Any]) -> None:
    usable = Preprocessing.published(224, 224).model_dump()
    Preprocessing.model_validate(usable)
    with pytest.raises(ValidationError):
        Preprocessing.model_validate(usable | change)


def test_preprocessing_survives_json_and_cannot_be_changed() -> None:
    assert Preprocessing.model_validate_json(SMALL.model_dump_json()) == SMALL
    with pytest.raises(ValidationError):
        SMALL.height = 64


def test_normalise_is_the_formula_for_every_pixel_value() -> None:
    unusual = SQUARE.model_copy(update={"mean": (0.1, 0.5, 0.9), "std": (0.01, 0.5, 3.0)})
    values = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), (2, 3, 16, 16))
    for preprocessing in (SMALL, unusual):
        found = preprocessing.normalise(values)
        assert found.dtype == np.float32
        assert found.shape == (2, 3, 16, 16)
        for channel in range(3):
            exact = (np.arange(256) / 255 - preprocessing.mean[channel]) / preprocessing.std[channel]
            # Three roundings of numbers up to 1, the largest part of them magnified by 1 / std.
            tolerance = 2**-23 / preprocessing.std[channel]
            assert np.abs(found[:, channel].reshape(2, 256) - exact).max() <= tolerance
