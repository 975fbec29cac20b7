"""The registry of NPUs.

To add one: a file with a class that follows `base.Npu`, and an entry in `NPUS` for each architecture.
"""

from cloformer_deploy.errors import RequestError
from cloformer_deploy.npu.base import SIMULATED_IMAGES, Compiled, Npu, Placed, no_artifact
from cloformer_deploy.npu.hexagon import HEXAGONS

__all__ = ["NPUS", "SIMULATED_IMAGES", "Compiled", "Npu", "Placed", "no_artifact", "npu_of"]

NPUS: dict[str, Npu] = {item.name: item for item in HEXAGONS}


def npu_of(name: str) -> Npu:
    """Return the NPU of a name.

    Raises:
        RequestError: there is none of that name.
    """
    if name not in NPUS:
        raise RequestError(f"the NPU {name!r} is not known", f"give one of {', '.join(NPUS)}")
    return NPUS[name]
