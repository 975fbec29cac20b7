"""Limits of artifacts by precision, which all tasks share. None depends on the scale of the outputs."""

from collections.abc import Mapping

LIMITS: dict[str, Mapping[str, float]] = {
    "fp32": {"agreement": 0.999, "sqnr_db": 90.0, "drop_pp": 0.5},
    "fp16": {"agreement": 0.998, "sqnr_db": 40.0, "drop_pp": 0.5},
    "int8": {"agreement": 0.97, "sqnr_db": 15.0, "drop_pp": 1.0},
    "w8": {"agreement": 0.98, "sqnr_db": 20.0, "drop_pp": 1.0},
    "w8a16": {"agreement": 0.98, "sqnr_db": 20.0, "drop_pp": 1.0},
    "p8": {"agreement": 0.98, "sqnr_db": 20.0, "drop_pp": 1.0},
    "p6": {"agreement": 0.95, "sqnr_db": 15.0, "drop_pp": 1.0},
}
"""See `Task.thresholds`."""


def without_drop(limits: Mapping[str, float]) -> Mapping[str, float]:
    """Return the limits of a task without a metric."""
    return {name: limit for name, limit in limits.items() if name != "drop_pp"}
