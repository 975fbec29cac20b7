"""Take a screenshot of the top of a report, with Chromium: `docs/report.png`.

python tools/report_screenshot.py REPORT.html [--dark] [--width 1280] [--height 1400] [--output FILE]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "report.png"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
DARK, LIGHT = 0, 1
COLOURS = 128
"""Enough for text and flat areas, at a third of the bytes."""


def take(page: Path, output: Path, width: int, height: int, dark: bool) -> None:
    """A image of `width` x `height` CSS pixels, in colours of a palette.

    Raises:
        SystemExit: there is no Chromium, or it failed.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        sys.exit(f"none of {', '.join(PROGRAMS)} is on PATH: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "page.png"
        command = [
            program,
            "--headless",
            # Chromium's sandbox refuses to run as root.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            *QUIET,
            f"--user-data-dir={folder}/profile",
            f"--blink-settings=preferredColorScheme={DARK if dark else LIGHT}",
            f"--window-size={width},{height}",
            "--hide-scrollbars",
            f"--screenshot={raw}",
            page.resolve().as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if not raw.exists():
            sys.exit(f"{program} took no image:\n{done.stderr}")
        with Image.open(raw) as image:
            image.convert("RGB").quantize(COLOURS).save(output, optimize=True)


def main() -> None:
    """Take it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1400)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    take(arguments.page, arguments.output, arguments.width, arguments.height, arguments.dark)


if __name__ == "__main__":
    main()
