"""Compare artifacts with PyTorch on the same images: distances, paired statistics, verdicts."""

from cloformer_deploy.validation.checks import Check, against_pytorch
from cloformer_deploy.validation.inference import artifact_outputs, reference_outputs
from cloformer_deploy.validation.leakage import check_no_leakage
from cloformer_deploy.validation.verdict import ArtifactVerdict, Reference, Validation, validate

__all__ = [
    "ArtifactVerdict",
    "Check",
    "Reference",
    "Validation",
    "against_pytorch",
    "artifact_outputs",
    "check_no_leakage",
    "reference_outputs",
    "validate",
]
