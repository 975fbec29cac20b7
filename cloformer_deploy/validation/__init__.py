"""Exports held against PyTorch: distances, paired statistics, verdicts."""

from cloformer_deploy.validation.drift import Drift
from cloformer_deploy.validation.leakage import check_no_leakage
from cloformer_deploy.validation.logits import artifact_logits, reference_logits, weight_failures
from cloformer_deploy.validation.verdict import THRESHOLDS, ArtifactVerdict, Reference, Validation, validate

__all__ = [
    "THRESHOLDS",
    "ArtifactVerdict",
    "Drift",
    "Reference",
    "Validation",
    "artifact_logits",
    "check_no_leakage",
    "reference_logits",
    "validate",
    "weight_failures",
]
