"""The measurements of a tuning, in a file of its work folder: an interrupted one goes on from there."""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from cloformer_deploy.backends.tuning import Tuning
from cloformer_deploy.errors import ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.files import replaced
from cloformer_deploy.system.schema import Sha256, Strict


class Trial(Strict):
    """A file with some choices, measured interleaved with one with others.

    Attributes:
        base: choices of the file that it was measured beside.
        tuning: its own choices.
        speedup: median, over rounds, of the base's time divided by its own; None where it failed.
        speedup_ci95: 95 % interval.
        rounds: of the measurement.
        failure: why there is no file, or no measurement.
    """

    base: Tuning
    tuning: Tuning
    speedup: float | None = None
    speedup_ci95: tuple[float, float] | None = None
    rounds: int = 0
    failure: str | None = None

    @property
    def pays(self) -> bool:
        """It is faster, with the whole interval."""
        return self.speedup_ci95 is not None and self.speedup_ci95[0] > 1


class State(Strict):
    """Everything that was measured.

    Attributes:
        schema_version: of this file.
        key: digest of all that a measurement depends on beside the choices; trials under another key are useless.
        trials: in the order in which they were measured.
        seconds: that measuring and making files have taken.
        machine: the device's processor; None where it does not say, or nothing was measured.
        runtime: what ran the files, with its version; None where nothing was measured.
    """

    schema_version: Literal[1] = 1
    key: Sha256
    trials: tuple[Trial, ...] = ()
    seconds: float = 0.0
    machine: str | None = None
    runtime: str | None = None

    def known(self, tuning: Tuning, base: Tuning) -> Trial | None:
        """Return the trial of these choices beside those."""
        return next((item for item in self.trials if (item.tuning, item.base) == (tuning, base)), None)


def read_state(path: Path, key: str, progress: Progress) -> State:
    """Return the state under a key; a new one where there is none, or where it is damaged, with a warning."""
    try:
        state = State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return State(key=key)
    except (OSError, ValidationError):
        progress.warn(f"{path} is damaged: the tuning starts again")
        return State(key=key)
    if state.key != key:
        progress.warn(f"{path} is of another tuning: this one starts anew")
        return State(key=key)
    return state


def write_state(path: Path, state: State) -> None:
    """Replace the state in a file, whole or not at all.

    Raises:
        ToolError: it cannot be written.
    """
    try:
        with replaced(path) as staged:
            staged.write_text(state.model_dump_json())
    except OSError as error:
        hint = "make room, or choose another --output"
        raise ToolError(f"{path} cannot be written: {error.strerror}", hint) from error
