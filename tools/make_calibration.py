"""Write the manifest of the default calibration set: `calibration/rendered.json`.

python tools/make_calibration.py [--count 256] [--seed 0]
"""

import argparse
from pathlib import Path

from cloformer_deploy.data.calibration import Recipe, measured

OUTPUT = Path(__file__).resolve().parents[1] / "calibration" / "rendered.json"


def main() -> None:
    """Render the set, and print the sha256 of its pixels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    made = measured(Recipe(count=arguments.count, seed=arguments.seed))
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(made.model_dump_json(indent=2) + "\n")
    print(f"{made.manifest.sha256}  {OUTPUT.name}")


if __name__ == "__main__":
    main()
