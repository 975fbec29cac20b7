"""Write the manifest of a bundled calibration set, `calibration/NAME.json`: what `calibrate NAME` writes.

python tools/make_calibration.py rendered|scenes [--count 256] [--seed 0]
"""

import argparse
import tempfile
from pathlib import Path

from cloformer_deploy.data import Preprocessing, make_calibration
from cloformer_deploy.data.calibration import BUNDLED
from cloformer_deploy.data.rendered import SIZE
from cloformer_deploy.progress import Silent

FOLDER = Path(__file__).resolve().parents[1] / "calibration"


def main() -> None:
    """Render the set, and print the sha256 of its pixels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(BUNDLED))
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    preprocessing = Preprocessing.published(SIZE, SIZE, margin=arguments.name == "rendered")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "set.safetensors")
        made = make_calibration(arguments.name, arguments.count, arguments.seed, preprocessing, output, Silent())
    written = FOLDER / f"{arguments.name}.json"
    written.write_text(made.calibration.manifest.model_dump_json(indent=2) + "\n")
    print(f"{made.calibration.sha256}  {written.name}")


if __name__ == "__main__":
    main()
