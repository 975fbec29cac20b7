"""What a search under an accuracy limit has found so far, in a file beside the output: an interrupted one goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloformer_deploy.system.files import replaced

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Evaluated(_Part):
    """One file over all images: which blocks it left float, its `digest`, and its paired drop of top-1."""

    excluded_layers: tuple[str, ...]
    sha256: Sha256
    drop_pp: Share
    drop_ci95_pp: tuple[Share, Share]


class State(_Part):
    """Every finished evaluation of one search.

    Attributes:
        schema_version: of this file.
        key: everything that an evaluation depends on; results under another are worthless.
        expected: the class that PyTorch gives each image, once it has seen them.
        noise: of each block that was measured.
        files: those that were evaluated.
    """

    schema_version: Literal[1] = 1
    key: Sha256
    expected: tuple[int, ...] | None = None
    noise: dict[str, Share] = {}
    files: tuple[Evaluated, ...] = ()


def read_state(path: Path, key: str, classes: int, images: int, warn: Callable[[str], None]) -> State:
    """The state under a key; a new one where there is none, or where it is damaged, which is warned of."""
    try:
        state = State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return State(key=key)
    except (OSError, ValidationError):
        warn(f"{path} is damaged: the search starts anew")
        return State(key=key)
    if state.key != key:
        return State(key=key)
    expected = (0,) * images if state.expected is None else state.expected
    if len(expected) != images or not all(0 <= index < classes for index in expected):
        warn(f"{path} is damaged: the search starts anew")
        return State(key=key)
    return state


def write_state(path: Path, state: State) -> None:
    """Put a state in place of the one before, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    with replaced(path) as staged:
        staged.write_text(state.model_dump_json())
