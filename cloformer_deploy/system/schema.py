"""The base of all strict schemas, and the wording of their validation errors."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloformer_deploy.system.text import clipped

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """A record that cannot be changed, takes no unknown fields and no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def first_error(error: ValidationError) -> str:
    """Return the first problem of a validation as `place: message`, on one printable line."""
    first = error.errors()[0]
    place = clipped(".".join(str(part) for part in first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
