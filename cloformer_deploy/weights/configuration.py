"""Configuration files of networks: JSON or YAML with the published keys."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cloformer_deploy.errors import RequestError
from cloformer_deploy.system.text import clipped

MAX_BYTES = 2**20
TRAINING_KEYS = ("attn_drop", "drop_path_rate", "drop_rate", "mlp_drop", "proj_drop", "use_checkpoint")
"""Keys of published configuration files that do not change what a trained network computes."""


def read_configuration(path: Path, keys: Collection[str]) -> dict[str, Any]:
    """Return the published keys that a configuration file has, flat or below `MODEL.cloformer`.

    Args:
        path: a JSON or YAML file.
        keys: the published keys.

    Raises:
        RequestError: the file cannot be read, is neither format, has none of the keys, or has others.
    """
    give = f"give JSON or YAML with the keys {', '.join(keys)}"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(f"the configuration {path} has more than {MAX_BYTES} bytes", give)
        content = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"the configuration {path} cannot be read: {error.strerror}", give) from error
    except (ValueError, RecursionError) as error:  # both parsers' errors, and UnicodeDecodeError
        told = clipped(str(error).strip().partition("\n")[0])
        raise RequestError(f"the configuration {path} cannot be read: {told}", give) from error
    for outer in ("MODEL", "cloformer"):
        if isinstance(content, Mapping) and isinstance(content.get(outer), Mapping):
            content = content[outer]
    if not isinstance(content, Mapping):
        raise RequestError(f"the configuration {path} is not a mapping of keys", give)
    unknown = [str(key) for key in content if key not in keys and key not in TRAINING_KEYS]
    if unknown:
        raise RequestError(f"the configuration {path} has an unknown key '{clipped(unknown[0])}'", give)
    found = {key: content[key] for key in keys if key in content}
    if not found:
        raise RequestError(f"the configuration {path} has none of the published keys", give)
    return found


def _parsed(text: str) -> Any:
    """Return the value of a JSON or YAML text.

    Raises:
        ValueError: it is neither.
    """
    try:
        return json.loads(text)
    except ValueError:
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
