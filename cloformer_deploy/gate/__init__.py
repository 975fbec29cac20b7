"""`gate`: judge a bundle by 95 % intervals against PyTorch and against the last accepted build."""

from cloformer_deploy.gate.baseline import Baseline, BaselineArtifact, read_baseline, write_baseline
from cloformer_deploy.gate.config import DriftConfig, Limits, read_config
from cloformer_deploy.gate.judge import Cell, Gate, gate
from cloformer_deploy.gate.latency import latency_checks, open_baseline_bundle
from cloformer_deploy.validation.checks import Check

__all__ = [
    "Baseline",
    "BaselineArtifact",
    "Cell",
    "Check",
    "DriftConfig",
    "Gate",
    "Limits",
    "gate",
    "latency_checks",
    "open_baseline_bundle",
    "read_baseline",
    "read_config",
    "write_baseline",
]
