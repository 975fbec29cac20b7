"""Draw scenes with their boxes, and their masks below: `docs/rendered-scenes.jpg`.

python tools/scene_sheet.py [--split validation] [--first 0] [--count 12] [--output FILE]
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cloformer_deploy.data.masks import palette
from cloformer_deploy.data.rendered import CLASSES, SIZE, SPLITS, render_scene

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "rendered-scenes.jpg"
COLUMNS = 6


def sheet(split: str, first: int, count: int) -> Image.Image:
    """`count` scenes from index `first`, each above its mask; boxes of objects that do not count are gray."""
    rows = -(-count // COLUMNS)
    drawn = Image.new("RGB", (COLUMNS * SIZE, 2 * rows * SIZE), "white")
    font = ImageFont.load_default(size=13)
    for number in range(count):
        scene = render_scene(split, first + number)
        image = Image.fromarray(scene.pixels)
        draw = ImageDraw.Draw(image)
        for item in scene.objects:
            left, top, right, bottom = item.box
            draw.rectangle((left, top, right - 1, bottom - 1), outline="gray" if item.ignored else "red")
            draw.text((left + 2, top), CLASSES[item.index], "red", font, stroke_width=1, stroke_fill="white")
        place = (number % COLUMNS * SIZE, number // COLUMNS * 2 * SIZE)
        drawn.paste(image, place)
        drawn.paste(Image.fromarray(palette()[scene.mask]), (place[0], place[1] + SIZE))
    return drawn


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    sheet(arguments.split, arguments.first, arguments.count).save(arguments.output, quality=85)


if __name__ == "__main__":
    main()
