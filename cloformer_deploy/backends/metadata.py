"""Metadata that each file carries, under the same keys in every format.

`task`, `variant`, `precision`, `target`, `weights_name`, `weights_sha256`, `tool_version` are plain text;
`labels` (a list or null) and `preprocessing` (as in the manifest) are JSON. A quantized file also has `recipe`, plain
text, and if its recipe needs calibration `clipped`, JSON: by the tensor's name in the file, the share of its values
over the calibration set that lie outside its range, 0..1. In the file each key has the prefix `cloformer_deploy.`.
"""

import json
from collections.abc import Mapping
from typing import Any

from cloformer_deploy.backends.base import METADATA_PREFIX, ExportSpec

_JSON_KEYS = frozenset({"clipped", "labels", "preprocessing"})


def prefixed(spec: ExportSpec, precision: str, clipped: Mapping[str, float]) -> dict[str, str]:
    """Return the key-value pairs to write into a file of this precision."""
    told = {**spec.metadata, "precision": precision}
    if spec.quantized is not None:
        told["recipe"] = spec.quantized.plan.recipe.name
    if clipped:
        told["clipped"] = json.dumps({name: float(f"{share:.3g}") for name, share in clipped.items()})
    return {METADATA_PREFIX + key: value for key, value in told.items()}


def parsed(stored: Mapping[str, str]) -> dict[str, Any]:
    """Return a file's own key-value pairs: ours without the prefix and with their JSON decoded, others as they are."""
    found: dict[str, Any] = {}
    for key, value in stored.items():
        short = key.removeprefix(METADATA_PREFIX)
        found[short] = value
        if short != key and short in _JSON_KEYS:
            try:
                found[short] = json.loads(value, parse_constant=_reject)
            except (ValueError, RecursionError):
                continue  # not written by this tool: kept as text
    return found


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
