"""Images of 1 to 4 channels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from cloformer_deploy.data import Preprocessing, RenderedImages, load_image
from cloformer_deploy.data.preprocessing import color_of
from cloformer_deploy.networks.base import COLORS, Color

SIZE = 64


@pytest.mark.parametrize(("channels", "color"), [(len(color), color) for color in COLORS])
def test_every_number_of_channels_has_a_color(channels: int, color: Color, tmp_path: Path) -> None:
    preprocessing = Preprocessing.published(SIZE, SIZE, color)
    assert color_of(channels) == color
    assert preprocessing.shape == (channels, SIZE, SIZE)
    assert len(preprocessing.mean) == len(preprocessing.std) == channels
    Image.new("RGB", (100, 80), (200, 100, 50)).save(tmp_path / "a.png")
    pixels = load_image(tmp_path / "a.png", preprocessing)
    gray = 124  # ITU-R 601: 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    expected = {"L": [gray], "LA": [gray, 255], "RGB": [200, 100, 50], "RGBA": [200, 100, 50, 255]}[color]
    assert pixels.reshape(channels, -1).tolist() == [[value] * SIZE**2 for value in expected]
    assert preprocessing.normalize(pixels[None]).shape == (1, channels, SIZE, SIZE)
    assert RenderedImages("test", range(1)).load(0, preprocessing).shape == (channels, SIZE, SIZE)


def test_a_fourth_channel_is_resized_like_the_others_and_weighs_none(tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(0, 256, (100, 100, 4)).astype(np.uint8)
    Image.fromarray(random, "RGBA").save(tmp_path / "a.png")
    found = load_image(tmp_path / "a.png", Preprocessing.published(SIZE, SIZE, "RGBA"))
    Image.fromarray(random[..., :3]).save(tmp_path / "b.png")
    np.testing.assert_array_equal(found[:3], load_image(tmp_path / "b.png", Preprocessing.published(SIZE, SIZE)))
    Image.fromarray(random[..., 3]).save(tmp_path / "c.png")
    np.testing.assert_array_equal(found[3:], load_image(tmp_path / "c.png", Preprocessing.published(SIZE, SIZE, "L")))


def test_mean_and_deviation_have_one_value_per_channel() -> None:
    known = Preprocessing.published(SIZE, SIZE).model_dump(mode="json")
    with pytest.raises(ValidationError, match="one value per channel of L"):
        Preprocessing.model_validate_json(Preprocessing(**known).model_copy(update={"color": "L"}).model_dump_json())
