"""Decoding of image files: JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF and, with pillow-heif, HEIC."""

import io
import mimetypes
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from cloformer_deploy.errors import DataError

MAX_PIXELS = 100_000_000
"""Largest number of pixels of an image file, and of an image while it is resized."""
REPAIR = "repair it or remove it from the folder"
_HEIF_PACKAGE = "pillow_heif"
_SIGNATURE_BYTES = 16


@dataclass(frozen=True)
class Kind:
    """A kind of image file.

    Attributes:
        name: in prose.
        suffixes: of file names, lower case.
        begins: tells the kind by a file's first bytes.
        open: opens a file; its pixels are decoded later.
    """

    name: str
    suffixes: tuple[str, ...]
    begins: Callable[[bytes], bool]
    open: Callable[[Path], Image.Image]


def _essential_chunks(data: bytes) -> Iterator[bytes]:
    """Yield a PNG file's signature and its chunks but for texts and color profiles (PNG specification, 11.3)."""
    yield data[:8]
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunk = data[place : place + 12 + length]
        if chunk[4:8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            yield chunk
        place += 12 + length


def _heic(path: Path) -> Image.Image:
    if find_spec(_HEIF_PACKAGE) is None:
        raise DataError(f"{path} is a HEIC image, for which pillow-heif is needed", "pip install pillow-heif")
    import pillow_heif

    image: Image.Image = pillow_heif.HeifImageFile(path)  # type: ignore[no-untyped-call]
    return image


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda start: start[4:8] == b"ftyp" and start[8:12] in brands


KINDS = (
    Kind("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), lambda start: start.startswith(b"\xff\xd8\xff"), JpegImageFile),
    Kind("PNG", (".png",), lambda start: start.startswith(b"\x89PNG\r\n\x1a\n"), PngImageFile),
    Kind("WebP", (".webp",), lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP", WebPImageFile),
    Kind("BMP", (".bmp", ".dib"), lambda start: start.startswith(b"BM"), BmpImageFile),
    Kind("GIF", (".gif",), lambda start: start.startswith((b"GIF87a", b"GIF89a")), GifImageFile),
    Kind("TIFF", (".tif", ".tiff"), lambda start: start.startswith((b"II*\0", b"MM\0*")), TiffImageFile),
    Kind("AVIF", (".avif",), _brand(b"avif", b"avis"), AvifImageFile),
    Kind("HEIC", (".heic", ".heif"), _brand(b"heic", b"heix", b"hevc", b"mif1", b"msf1"), _heic),
)
"""Kinds that are read. The kind of a file is told by its content, not by its name."""


def is_image(path: Path) -> bool:
    """Tell by its name whether a file is an image of a kind that is read here and now."""
    suffix = path.suffix.lower()
    kind = next((kind for kind in KINDS if suffix in kind.suffixes), None)
    return kind is not None and (kind.open is not _heic or find_spec(_HEIF_PACKAGE) is not None)


def is_unread_image(path: Path) -> bool:
    """Tell by its name whether a file is an image of a kind that is not read here and now."""
    suffix = path.suffix.lower()
    known = any(suffix in kind.suffixes for kind in KINDS)
    raw = suffix in (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2", ".jxl", ".jp2", ".psd", ".tga")
    return not is_image(path) and (known or raw or (mimetypes.guess_type(path.name)[0] or "").startswith("image/"))


def decode(path: Path, color: str = "RGB") -> Image.Image:
    """Decode an image file to an upright image.

    EXIF orientation is applied, alpha is dropped unless it is asked for, 16-bit channels keep their 8 high bits, and
    the first frame of an animation is used. Texts and color profiles of PNG files that Pillow finds too large are
    passed over.

    Args:
        path: the file.
        color: Pillow's mode of the result. Alpha of files that have none is 255.

    Raises:
        DataError: the file is of no kind of `KINDS`, is damaged, or has more than `MAX_PIXELS` pixels.
    """
    try:
        kind = _kind(path)
        try:
            return _decoded(path, kind.open(path), color)
        except ValueError as error:
            if "MAX_TEXT" not in str(error):
                raise
            essential = io.BytesIO(b"".join(_essential_chunks(path.read_bytes())))
            return _decoded(path, PngImageFile(essential), color)
    except DataError:
        raise
    except Exception as error:  # on damaged bytes the decoders raise nearly any class
        raise DataError(f"{path} cannot be decoded: {error}", REPAIR) from error


def _decoded(path: Path, opened: Image.Image, color: str) -> Image.Image:
    with opened as image:
        if image.width * image.height > MAX_PIXELS:
            size = f"{image.width} x {image.height} pixels, more than the limit of {MAX_PIXELS:,}"
            raise DataError(f"{path} has {size}", "scale it down, or remove it from the folder")
        return _converted(image, color)


def _kind(path: Path) -> Kind:
    """Return the kind of a file.

    Image.open is not used: some of its decoders run other programs (EPS), and for large images it raises a warning,
    which cannot be suppressed for one thread alone.
    """
    with path.open("rb") as file:
        start = file.read(_SIGNATURE_BYTES)
    kind = next((kind for kind in KINDS if kind.begins(start)), None)
    if kind is None:
        raise DataError(f"{path} is no image of a kind that is read ({', '.join(kind.name for kind in KINDS)})", REPAIR)
    return kind


def _converted(image: Image.Image, color: str) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise ValueError("its pixels are floating-point numbers of no known range")
    if upright.mode == "P":  # Pillow warns when it converts a palette with alpha directly to RGB
        upright = upright.convert("RGBA")
    if upright.mode.startswith("I"):  # convert() clips 16-bit values at 255
        upright = Image.fromarray((np.asarray(upright, np.int32) >> 8).clip(0, 255).astype(np.uint8))
    return upright.convert(color)
