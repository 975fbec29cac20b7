"""The state of an accuracy search, in a file beside the output: an interrupted search goes on from there."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from cloformer_deploy.progress import Progress
from cloformer_deploy.system.files import replaced
from cloformer_deploy.system.schema import Sha256, Strict

Evidence = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]


class Evaluated(Strict):
    """One file, evaluated on all images.

    Attributes:
        excluded_layers: blocks that it keeps in float.
        sha256: `digest` of the file.
        drop_pp: paired drop of the task's metric, percentage points.
        drop_ci95_pp: its 95 % interval.
    """

    excluded_layers: tuple[str, ...]
    sha256: Sha256
    drop_pp: float
    drop_ci95_pp: tuple[float, float]


class State(Strict):
    """Every finished evaluation of one search.

    Attributes:
        schema_version: of this file.
        key: digest of everything that an evaluation depends on; results under another key are useless.
        expected: PyTorch's evidence of each image (`Task.evidence`), hexadecimal; None until it has run.
        noise: error of the outputs by quantized block, of those that were measured.
        files: files that were evaluated.
    """

    schema_version: Literal[2] = 2
    key: Sha256
    expected: tuple[Evidence, ...] | None = None
    noise: dict[str, float] = Field(default_factory=dict)
    files: tuple[Evaluated, ...] = ()


def read_state(path: Path, key: str, images: int, progress: Progress) -> State:
    """Return the state under a key; a new one where there is none, or where it is damaged, with a warning."""
    try:
        state = State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return State(key=key)
    except (OSError, ValidationError):
        progress.warn(f"{path} is damaged: the search starts again")
        return State(key=key)
    if state.key != key:
        return State(key=key)
    lengths = {len(item) for item in state.expected or ()}
    if state.expected is not None and (len(state.expected) != images or len(lengths) > 1):
        progress.warn(f"{path} is damaged: the search starts again")
        return State(key=key)
    return state


def write_state(path: Path, state: State) -> None:
    """Replace the state in a file, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    with replaced(path) as staged:
        staged.write_text(state.model_dump_json())
