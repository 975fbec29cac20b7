"""Write the manifest of the default calibration set, `calibration/rendered.json`: what `calibrate rendered` writes.

python tools/make_calibration.py [--count 256] [--seed 0]
"""

import argparse
import tempfile
from pathlib import Path

from cloformer_deploy.data import Preprocessing, make_calibration
from cloformer_deploy.data.rendered import SIZE
from cloformer_deploy.progress import Silent

OUTPUT = Path(__file__).resolve().parents[1] / "calibration" / "rendered.json"


def main() -> None:
    """Render the set, and print the sha256 of its pixels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    preprocessing = Preprocessing.published(SIZE, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "rendered.safetensors")
        made = make_calibration("rendered", arguments.count, arguments.seed, preprocessing, output, Silent())
    OUTPUT.write_text(made.calibration.manifest.model_dump_json(indent=2) + "\n")
    print(f"{made.calibration.sha256}  {OUTPUT.name}")


if __name__ == "__main__":
    main()
