"""Draw the classes of the rendered task side by side, with their names: `docs/rendered-task.jpg`.

python tools/contact_sheet.py [--split validation] [--first 0] [--each 3] [--output FILE]
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cloformer_deploy.data.rendered import CLASSES, SPLITS, render

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "rendered-task.jpg"
COLUMNS = 10
SIDE = 128
CAPTION = 20


def sheet(split: str, first: int, each: int) -> Image.Image:
    """`each` images of every class below its name, the images following on one another from index `first`."""
    block = CAPTION + each * SIDE
    drawn = Image.new("RGB", (COLUMNS * SIDE, len(CLASSES) // COLUMNS * block), "white")
    text = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(size=14)
    for number, name in enumerate(CLASSES):
        left, top = number % COLUMNS * SIDE, number // COLUMNS * block
        text.text((left + SIDE // 2, top + CAPTION // 2), name, "black", font, anchor="mm")
        for row in range(each):
            image = Image.fromarray(render(split, first + row * len(CLASSES) + number))
            drawn.paste(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, top + CAPTION + row * SIDE))
    return drawn


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--first", type=int, default=0, help="a multiple of 20 (default 0)")
    parser.add_argument("--each", type=int, default=3, help="images of each class (default 3)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.first % len(CLASSES):
        parser.error(f"--first {arguments.first} is not a multiple of {len(CLASSES)}")
    sheet(arguments.split, arguments.first, arguments.each).save(arguments.output, quality=88)


if __name__ == "__main__":
    main()
