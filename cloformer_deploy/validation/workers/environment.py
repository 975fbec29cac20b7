"""The part of a process's environment that results depend on, to compare it with another process's."""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from cloformer_deploy import __version__


def of_images() -> Mapping[str, str]:
    """Return what the pixels of an image depend on: versions by the names of packages."""
    return {"cloformer-deploy": own_version(), **{name: version(name) for name in ("numpy", "pillow")}}


def of_pytorch() -> Mapping[str, str]:
    """Return what PyTorch's outputs of an image depend on: versions by the names of packages, and the processor."""
    import torch

    processor = f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {**of_images(), "torch": version("torch"), "the processor": processor}


@cache
def own_version() -> str:
    """Return the version of this package, with a checksum of its source: a checkout changes without its version."""
    root = Path(__file__).resolve().parents[2]
    source = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        source.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return f"{__version__} (source {source.hexdigest()[:12]})"
