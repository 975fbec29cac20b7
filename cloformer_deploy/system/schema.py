"""The base class of all strict pydantic models, and the wording of their validation errors."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from cloformer_deploy.system.text import clipped

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest: 64 lower-case hexadecimal digits."""


def _path(value: Any) -> Path:
    if isinstance(value, str):
        return Path(os.fsdecode(value.encode("latin-1")))
    if isinstance(value, Path):
        return value
    raise ValueError("this is no path")


AnyPath = Annotated[
    Path,
    PlainValidator(_path),
    PlainSerializer(lambda path: os.fsencode(path).decode("latin-1"), return_type=str, when_used="json"),
]
"""A path whose name need not be UTF-8; in JSON each of its bytes is a character."""


class Strict(BaseModel):
    """An immutable record that rejects unknown fields, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def first_error(error: ValidationError) -> str:
    """Return the first problem of a validation error as `place: message`, or `message` if it concerns the whole input.

    The place is the dotted path of the field. It may contain text of an untrusted file, so it is made printable and
    clipped to `text.MAX_LENGTH` characters.
    """
    first = error.errors()[0]
    place = clipped(".".join(str(part) for part in first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
