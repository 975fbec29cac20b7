"""Convert a network by litert-torch in a process of its own: JAX, which it imports, warns at every later fork.

python -m tests.litert_convert FILE OUTPUT    # FILE: `torch.save((network, example))`
"""

import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]


def converted(model: nn.Module, example: Tensor, folder: Path) -> bytes:
    """Return the TFLite file of a network whose classes can be imported."""
    source, output = folder / "network.pt", folder / "network.tflite"
    torch.save((model, example), source)
    command = [sys.executable, "-m", "tests.litert_convert", str(source), str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return output.read_bytes()


def main(source: str, output: str) -> None:
    """Convert; the script of the process."""
    import litert_torch

    model, example = torch.load(source, weights_only=False)
    litert_torch.convert(model, (example,)).export(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
