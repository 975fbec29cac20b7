"""The JSON answers of the commands, whose keys the contract fixes."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cloformer_deploy.report.placement import placement_json

if TYPE_CHECKING:
    from cloformer_deploy.backends.inspection import Inspection
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.data import MadeCalibration
    from cloformer_deploy.doctor import Survey
    from cloformer_deploy.exporting.pipeline import Export
    from cloformer_deploy.npu import Compiled
    from cloformer_deploy.tasks import Comparison
    from cloformer_deploy.validation import ArtifactVerdict, Validation

Answer = Mapping[str, Any]
_VERSION = {"schema_version": 1}


def export_json(made: "Export") -> Answer:
    """Return the artifacts that were written now, as in the manifest, each with its `check`."""
    manifest = made.bundle.manifest
    artifacts = [
        {**item.model_dump(mode="json"), "check": made.checks[item.path].model_dump()}
        for item in manifest.artifacts
        if item.path in made.checks
    ]
    return {
        **_VERSION,
        "bundle": str(made.bundle.root),
        "task": manifest.task,
        "variant": manifest.variant,
        "artifacts": artifacts,
    }


def calibration_json(made: "MadeCalibration") -> Answer:
    """Return the new calibration set, without the digests of its images."""
    manifest = made.calibration.manifest.model_dump(mode="json")
    told = {key: manifest[key] for key in ("source", "sha256", "n", "seed", "classes")}
    return {**_VERSION, "output": str(made.output), **told, "warnings": list(made.warnings)}


def validation_json(result: "Validation") -> Answer:
    """Return PyTorch's own result and one entry per artifact."""
    return {
        **_VERSION,
        "images": result.images,
        "task": result.task,
        "metric": result.metric,
        "reference": dataclasses.asdict(result.reference),
        "artifacts": [_verdict_json(item) for item in result.artifacts],
    }


def _verdict_json(item: "ArtifactVerdict") -> Answer:
    return {
        **{name: getattr(item, name) for name in ("path", "format", "precision", "target", "runtime", "status")},
        **comparison_json(item.found),
        "thresholds": dict(item.thresholds),
        "failures": list(item.failures),
        "undecided": list(item.undecided),
    }


def comparison_json(found: "Comparison | None") -> Answer:
    """Return the figures of a comparison; all are null where nothing was executed."""
    names = ("score", "drop_pp", "drop_ci95_pp", "agreement", "max_abs_diff", "sqnr_db", "cosine_min")
    return {"n": found.n if found else 0, **{name: getattr(found, name) if found else None for name in names}}


def inspection_json(inspection: "Inspection", compiled: "Compiled | None" = None) -> Answer:
    """Return what is known of one file, and its placement on an NPU."""
    return {**_VERSION, **_flat(inspection), **placement_json(compiled)}


def bundle_json(
    bundle: "Bundle", inspected: "Sequence[Inspection]", compiled: "Mapping[str, Compiled]" = MappingProxyType({})
) -> Answer:
    """Return the manifest, each artifact with its inspection and, where it was compiled, its placement by its path."""
    manifest = bundle.manifest.model_dump(mode="json")
    artifacts = [
        {**_flat(inspection), **item, **placement_json(compiled.get(item["path"]))}
        for item, inspection in zip(manifest["artifacts"], inspected, strict=True)
    ]
    return {**manifest, "artifacts": artifacts}


def _flat(inspection: "Inspection") -> Answer:
    """Return the description, and beside it a key for each section that the runtime shows."""
    sections = {section.name: dict(section.facts) for section in inspection.sections}
    return {**dataclasses.asdict(inspection.description), **sections, "problem": inspection.problem}


def survey_json(found: "Survey") -> Answer:
    """Return the survey."""
    return {**_VERSION, **dataclasses.asdict(found)}
