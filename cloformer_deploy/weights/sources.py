"""Weights as one file, as a folder that a library saved, or as shards that an index lists."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.system.text import clipped, listed
from cloformer_deploy.weights.files import MAX_FILE_BYTES, Parsed, parse, read
from cloformer_deploy.weights.torch_files import COPY_AGAIN, GIVE_WEIGHTS

INDEX_SUFFIX = ".index.json"
FOLDER_FILES = (
    "model.safetensors",
    f"model.safetensors{INDEX_SUFFIX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX_SUFFIX}",
)
"""Files that transformers, timm and accelerate save in a folder; the first that is there is read."""
CONFIG = "config.json"
_MAX_SHARDS = 1000


@dataclass(frozen=True)
class Source:
    """Weights that were read, wherever they lay.

    Attributes:
        parsed: the content.
        sha256: digest of the file; of several files, of the lines of their digests and names.
        bytes: size of all files.
    """

    parsed: Parsed
    sha256: str
    bytes: int


def open_source(path: Path) -> Source:
    """Read a weights file, a folder, or an index of shards.

    Raises:
        CheckpointError: there is none, or it is damaged or not complete.
    """
    if path.is_dir():
        return _folder(path)
    if path.name.endswith(INDEX_SUFFIX):
        return _shards(path)
    data = read(path)
    return Source(parse(data), hashlib.sha256(data).hexdigest(), len(data))


def _folder(folder: Path) -> Source:
    if (folder / ".metadata").exists():
        raise CheckpointError(
            "this is a distributed checkpoint",
            f"convert it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pth",
        )
    names = [name for name in FOLDER_FILES if (folder / name).is_file()]
    if not names:
        raise CheckpointError(f"this folder has none of {', '.join(FOLDER_FILES)}", GIVE_WEIGHTS)
    found = open_source(folder / names[0])
    if (folder / CONFIG).is_file():
        # Beside the weights, so that its configuration is found like one in a file.
        content = {"": found.parsed.content, CONFIG: _json(folder / CONFIG)}
        found = replace(found, parsed=replace(found.parsed, content=content))
    return found


def _shards(index: Path) -> Source:
    """Read the files that an index lists; each tensor from the shard that the index names."""
    listing = _json(index).get("weight_map")
    if not isinstance(listing, Mapping) or not all(isinstance(name, str) for name in listing.values()):
        raise CheckpointError(f"{index.name} has no weight_map", COPY_AGAIN)
    names = sorted(set(listing.values()))
    for name in names:
        if Path(name).name != name or name in (".", ".."):
            raise CheckpointError(f"{index.name} names a shard outside its folder: {clipped(name)}", COPY_AGAIN)
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing or len(names) > _MAX_SHARDS:
        raise CheckpointError(
            f"{len(missing)} of the {len(names)} shards that {index.name} lists are missing: {listed(missing)}",
            COPY_AGAIN,
        )
    content: dict[str, Any] = {}
    parts: dict[str, Parsed] = {}
    digests, size = [], 0
    for name in names:
        data = read(index.parent / name)
        size += len(data)
        if size > MAX_FILE_BYTES:
            raise CheckpointError(f"the shards have more than {MAX_FILE_BYTES} bytes", GIVE_WEIGHTS)
        digests.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
        parsed = parse(data)
        entries = parsed.content if isinstance(parsed.content, dict) else {}
        for key in (key for key, shard in listing.items() if shard == name):
            if key not in entries:
                raise CheckpointError(f"{name} lacks {clipped(key)}, which {index.name} lists in it", COPY_AGAIN)
            content[key], parts[key] = entries[key], parsed

    by_value = {id(value): parts[key] for key, value in content.items()}

    def tensor(name: str, value: Any) -> Tensor:
        return by_value[id(value)].tensor(name, value)

    return Source(Parsed(content, tensor), hashlib.sha256("".join(digests).encode()).hexdigest(), size)


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON file's object."""
    try:
        found = json.loads(read(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is no JSON ({clipped(str(error))})", COPY_AGAIN) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path.name} is no JSON object", COPY_AGAIN)
    return found
