"""Colors that can be read, in light and in dark mode."""

import re
from itertools import product
from pathlib import Path

import pytest

import cloformer_deploy.report.html

STYLE = Path(cloformer_deploy.report.html.__file__).with_name("style.css").read_text()
COLOR = re.compile(r"--(\w+): (#[0-9a-f]{6});")
INKS, GROUNDS = ("text", "muted", "accent", "good", "bad", "doubt"), ("ground", "raised")
AA = 4.5
"""Contrast of text to its ground (WCAG 2.2, 1.4.3)."""


def colors(dark: bool) -> dict[str, str]:
    begin = STYLE.index("prefers-color-scheme: dark") if dark else 0
    block = STYLE[STYLE.index(":root {", begin) : STYLE.index("}", STYLE.index(":root {", begin))]
    return dict(COLOR.findall(block))


def luminance(color: str) -> float:
    """Relative luminance, by WCAG's definition."""
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read(dark: bool) -> None:
    found = colors(dark)
    for ink, ground in product(INKS, GROUNDS):
        low, high = sorted((luminance(found[ink]), luminance(found[ground])))
        assert (high + 0.05) / (low + 0.05) >= AA, (ink, ground)


def test_both_modes_have_every_color_and_nothing_has_one_of_its_own() -> None:
    assert colors(dark=True).keys() == colors(dark=False).keys() == {*INKS, *GROUNDS, "rule"}
    assert set(re.findall(r"var\(--(\w+)\)", STYLE)) == colors(dark=False).keys()
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", STYLE[STYLE.index("* {") :]) == []


def test_paper_is_light() -> None:
    assert "@media screen and (prefers-color-scheme: dark)" in STYLE
    assert "@media print" in STYLE
