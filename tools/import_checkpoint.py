"""Convert a weights file to the form that ships in `models/`: safetensors, float32, labels in the metadata.

python tools/import_checkpoint.py SOURCE OUTPUT [--labels FILE]
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from cloformer_deploy.checkpoints import load_checkpoint, save_checkpoint
from cloformer_deploy.errors import RequestError
from cloformer_deploy.pipeline import read_labels


def main() -> int:
    """Convert, and print the sha256 of what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a weights file, .pth, .pt or .safetensors")
    parser.add_argument("output", type=Path, help="the .safetensors file to write")
    parser.add_argument("--labels", type=Path, help="a text file with one class name a line, in the head's order")
    arguments = parser.parse_args()
    try:
        checkpoint = load_checkpoint(arguments.source)
        if arguments.labels is not None:
            labels = read_labels(arguments.labels, checkpoint.num_classes)
            checkpoint = dataclasses.replace(checkpoint, labels=labels)
        digest = save_checkpoint(checkpoint, arguments.output)
    except RequestError as error:
        print(f"{error.message} {error.hint}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{digest}  {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
