"""`drift.toml`: the limits of artifacts. Every limit has a default, by the artifact's precision.

::

    undecided = "pass"     # or "fail": the result of a figure whose 95 % interval holds its limit

    [defaults]             # of every artifact
    drop_pp = 0.5

    [[limits]]             # of the artifacts that it names; later tables override earlier ones
    format = "coreml"
    precision = "int8"
    agreement = 0.98
    not_executed = "allow"
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator

from cloformer_deploy.backends.registry import BACKENDS, all_precisions
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import RequestError
from cloformer_deploy.system.schema import Strict, first_error
from cloformer_deploy.tasks import Task

DEFAULT_NAME = "drift.toml"
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(ge=0, le=1000)]
Difference = Annotated[float, Field(ge=0)]


class _Part(Strict):
    model_config = ConfigDict(strict=True)


class Limits(_Part):
    """The limits of an artifact: against PyTorch on the same images, and against the baseline.

    Attributes:
        agreement: least agreement with PyTorch, 0..1.
        sqnr_db: least signal-to-noise ratio of the outputs, dB.
        cosine_min: least cosine of any output of any image; None asks for none.
        max_abs_diff: largest difference of any output value of any image, in its own unit; None allows any.
        drop_pp: largest fall of the task's metric against PyTorch, percentage points; unused without a metric.
        regression_pp: largest fall of the metric (without labels, of the agreement) against the baseline, percentage
            points.
        regression_db: largest fall of the SQNR against the baseline, dB.
        growth: largest growth of the file against the baseline, as a share.
        operators_growth: largest growth of its number of operators.
        not_executed: `fail` or `allow`: the result of an artifact that cannot be run here.
        speedup: how many times as fast as the float32 file of its format it must be; None measures no latency.
        slowdown: how much slower than the baseline's file of its kind it may be, as a share; None measures no latency.
        npu_share: least share of it that its NPUs must run (see `Compiled.npu_share`); None asks no compiler.
    """

    agreement: Share
    sqnr_db: float
    cosine_min: float | None = None
    max_abs_diff: Difference | None = None
    drop_pp: Positive = 0.0
    regression_pp: Positive = 0.5
    regression_db: Positive = 3.0
    growth: Positive = 0.05
    operators_growth: Positive = 0.02
    not_executed: Literal["fail", "allow"] = "fail"
    speedup: Positive | None = None
    slowdown: Positive | None = None
    npu_share: Share | None = None


class _Given(_Part):
    agreement: Share | None = None
    sqnr_db: float | None = None
    cosine_min: float | None = None
    max_abs_diff: Difference | None = None
    drop_pp: Positive | None = None
    regression_pp: Positive | None = None
    regression_db: Positive | None = None
    growth: Positive | None = None
    operators_growth: Positive | None = None
    not_executed: Literal["fail", "allow"] | None = None
    speedup: Positive | None = None
    slowdown: Positive | None = None
    npu_share: Share | None = None


class _Rule(_Given):
    format: str | None = None
    precision: str | None = None
    target: str | None = None

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str | None) -> str | None:
        if name is not None and name not in BACKENDS:
            raise ValueError(f"{name!r} is no format; choose from {', '.join(BACKENDS)}")
        return name

    @field_validator("precision")
    @classmethod
    def _known_precision(cls, name: str | None) -> str | None:
        if name is not None and name not in all_precisions():
            raise ValueError(f"{name!r} is no precision; choose from {', '.join(all_precisions())}")
        return name

    def names(self, artifact: Artifact) -> bool:
        """Tell whether the rule is about an artifact."""
        wanted = (self.format, self.precision, self.target)
        return all(mine in (None, its) for mine, its in zip(wanted, artifact.key, strict=True))


class DriftConfig(_Part):
    """The contents of `drift.toml`.

    Attributes:
        undecided: the result of a check whose figure is beyond its limit while its 95 % interval holds the limit.
        defaults: limits of every artifact.
        limits: rules for some artifacts; later ones override earlier ones.
        source: path of the file; None for the built-in defaults.
    """

    undecided: Literal["pass", "fail"] = "pass"
    defaults: _Given = _Given()
    limits: tuple[_Rule, ...] = ()
    source: str | None = Field(default=None, exclude=True)

    def limits_of(self, artifact: Artifact, task: Task) -> Limits:
        """Return the limits of one artifact: the task's, then `defaults`, then the rules that name it, in order."""
        merged: dict[str, Any] = dict(task.thresholds(artifact.precision))
        for part in (self.defaults, *(rule for rule in self.limits if rule.names(artifact))):
            merged |= part.model_dump(exclude={"format", "precision", "target"}, exclude_none=True)
        return Limits(**merged)


def read_config(path: Path | None) -> DriftConfig:
    """Read a configuration; without a path, `drift.toml` in the current folder if it is there, else the defaults.

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
        # TOML has lists where the strict schema wants a tuple.
        config = DriftConfig.model_validate({**content, "limits": tuple(content.get("limits", ()))})
    except (ValidationError, TypeError) as error:
        reason = first_error(error) if isinstance(error, ValidationError) else f"limits: {error}"
        raise RequestError(f"{path}: {reason}", hint) from error
    return config.model_copy(update={"source": str(path)})
