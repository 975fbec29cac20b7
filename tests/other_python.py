"""Environments of other packages than ours, which `make test` builds."""

import os
import platform
from pathlib import Path

import pytest


def other_python(name: str) -> Path:
    """Return the Python of an environment: `other_python("tflite-runtime")`.

    Its requirements are in `tests/requirements-*.txt`.
    """
    python = Path(__file__).resolve().parents[1] / f".venv-{name}" / "bin" / "python"
    if not python.exists():
        # Some wheels are Linux's; there, a continuous integration without them has failed to install them.
        if os.environ.get("CI") and platform.system() == "Linux":
            pytest.fail(f"the environment of {name} is missing, which `make test` builds")
        pytest.skip(f"needs the environment of {name}, which `make test` builds")
    return python
