"""`drift.toml`: what each artifact must reach. Every limit has a default, by the artifact's precision.

::

    undecided = "pass"     # or "fail": what becomes of a figure that these images cannot tell from its limit

    [defaults]             # of every artifact
    top1_drop_pp = 0.5

    [[limits]]             # of those it names; later ones prevail
    format = "coreml"
    precision = "int8"
    top1_agreement = 0.98
    not_executed = "allow"
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloformer_deploy.backends.registry import FLOATS, FORMATS, PRECISIONS
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import RequestError
from cloformer_deploy.validation import THRESHOLDS

DEFAULT_NAME = "drift.toml"
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(ge=0, le=1000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Limits(_Part):
    """What an artifact is held to: against PyTorch on the same images, and against the baseline.

    Attributes:
        top1_agreement: least share of the same first class as PyTorch's, 0..1.
        sqnr_db: least signal-to-noise ratio of the mean-centered logits, dB.
        top1_drop_pp: most that top-1 may fall, percentage points.
        regression_pp: most that it (without labels, the agreement) may fall against the baseline, percentage points.
        regression_db: most that the SQNR may fall against the baseline, dB.
        growth: most that the file may grow against the baseline, as a share.
        operators_growth: the same of its number of operators.
        not_executed: whether an artifact that cannot be run here fails.
        speedup: how many times as fast as the float32 file of its format it must be; None measures no latency.
        slowdown: most that it may be slower than the accepted file of its kind, as a share; None as well.
    """

    top1_agreement: Share
    sqnr_db: float
    top1_drop_pp: Positive
    regression_pp: Positive = 0.5
    regression_db: Positive = 3.0
    growth: Positive = 0.05
    operators_growth: Positive = 0.02
    not_executed: Literal["fail", "allow"] = "fail"
    speedup: Positive | None = None
    slowdown: Positive | None = None


class _Given(_Part):
    top1_agreement: Share | None = None
    sqnr_db: float | None = None
    top1_drop_pp: Positive | None = None
    regression_pp: Positive | None = None
    regression_db: Positive | None = None
    growth: Positive | None = None
    operators_growth: Positive | None = None
    not_executed: Literal["fail", "allow"] | None = None
    speedup: Positive | None = None
    slowdown: Positive | None = None


class _Rule(_Given):
    format: Literal[tuple(FORMATS)] | None = None  # type: ignore[valid-type]
    precision: Literal[tuple(PRECISIONS)] | None = None  # type: ignore[valid-type]
    target: str | None = None

    def names(self, artifact: Artifact) -> bool:
        """Whether it is about an artifact."""
        named = (self.format, artifact.format), (self.precision, artifact.precision), (self.target, artifact.target)
        return all(mine in (None, its) for mine, its in named)


class DriftConfig(_Part):
    """The whole file; `source` is where it was read, None for the defaults."""

    undecided: Literal["pass", "fail"] = "pass"
    defaults: _Given = _Given()
    limits: tuple[_Rule, ...] = ()
    source: str | None = Field(default=None, exclude=True)

    def limits_of(self, artifact: Artifact) -> Limits:
        """The limits of one artifact."""
        merged = _built_in(artifact.precision)
        for part in (self.defaults, *(rule for rule in self.limits if rule.names(artifact))):
            merged |= part.model_dump(exclude={"format", "precision", "target"}, exclude_none=True)
        return Limits(**merged)


def _built_in(precision: str) -> dict[str, Any]:
    return {**THRESHOLDS[precision], "top1_drop_pp": 0.5 if precision in FLOATS else 1.0}


def read_config(path: Path | None) -> DriftConfig:
    """A configuration from a file; without one, `drift.toml` in the current folder if it is there, else the defaults.

    Raises:
        RequestError: unreadable, no TOML, or a key or value that is not known.
    """
    if path is None:
        path = Path(DEFAULT_NAME)
        if not path.exists():
            return DriftConfig()
    hint = "see docs/gate.md for what it may hold"
    try:
        content: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read: {error}", "give a drift.toml") from error
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{path} is no TOML: {error}", hint) from error
    try:
        # By way of JSON's rules: TOML has arrays where a tuple is wanted.
        config = DriftConfig.model_validate({**content, "limits": tuple(content.get("limits", ()))})
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("limits",), "msg": str(error)}
        place = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{path}: {place}: {first['msg']}", hint) from error
    return config.model_copy(update={"source": str(path)})
