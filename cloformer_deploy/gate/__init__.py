"""The drift gate: a bundle against PyTorch and against the last build that was accepted, with intervals."""

from cloformer_deploy.gate.baseline import Baseline, read_baseline, write_baseline
from cloformer_deploy.gate.checks import Check
from cloformer_deploy.gate.config import DriftConfig, Limits, read_config
from cloformer_deploy.gate.judging import Cell, Gate, gate
from cloformer_deploy.gate.latency import latency_checks, open_accepted

__all__ = [
    "Baseline",
    "Cell",
    "Check",
    "DriftConfig",
    "Gate",
    "Limits",
    "gate",
    "latency_checks",
    "open_accepted",
    "read_baseline",
    "read_config",
    "write_baseline",
]
