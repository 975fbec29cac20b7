"""What each file says of itself, under the same keys in every format.

`variant`, `precision`, `target`, `weights_name`, `weights_sha256`, `tool_version` are plain text;
`labels` (a list or null) and `preprocessing` (as in the manifest) are JSON. In the file each key has the
prefix `cloformer_deploy.`.
"""

import json
from collections.abc import Mapping
from typing import Any

from cloformer_deploy.formats.base import METADATA_PREFIX

_JSON_KEYS = frozenset({"labels", "preprocessing"})


def prefixed(metadata: Mapping[str, str], precision: str) -> dict[str, str]:
    """The key-value pairs to write into a file of this precision."""
    return {METADATA_PREFIX + key: value for key, value in {**metadata, "precision": precision}.items()}


def parsed(stored: Mapping[str, str]) -> dict[str, Any]:
    """A file's own key-value pairs: ours without the prefix and with their JSON decoded, others as they are."""
    found: dict[str, Any] = {}
    for key, value in stored.items():
        short = key.removeprefix(METADATA_PREFIX)
        found[short] = value
        if short != key and short in _JSON_KEYS:
            try:
                found[short] = json.loads(value, parse_constant=_refuse)
            except (ValueError, RecursionError):
                continue  # not what this tool writes: shown as it stands
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
