"""What the commands answer with `--json`, as the contract lays it down."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloformer_deploy.backends.inspection import Inspection
    from cloformer_deploy.bundle.bundle import Bundle
    from cloformer_deploy.data import MadeCalibration
    from cloformer_deploy.doctor import Survey
    from cloformer_deploy.export.pipeline import Export
    from cloformer_deploy.validation import Validation

Answer = Mapping[str, Any]
_VERSION = {"schema_version": 1}


def export_json(made: "Export") -> Answer:
    """The artifacts written now, as in the manifest, each with its `check`; and where the bundle is."""
    manifest = made.bundle.manifest
    artifacts = [
        {**item.model_dump(mode="json"), "check": made.checks[item.path].model_dump()}
        for item in manifest.artifacts
        if item.path in made.checks
    ]
    return {**_VERSION, "bundle": str(made.bundle.root), "variant": manifest.variant, "artifacts": artifacts}


def calibration_json(made: "MadeCalibration") -> Answer:
    """The new calibration set, without the digests of its images."""
    manifest = made.calibration.manifest.model_dump(mode="json")
    told = {key: manifest[key] for key in ("source", "sha256", "n", "seed", "classes")}
    return {**_VERSION, "output": str(made.output), **told, "warnings": list(made.warnings)}


def validation_json(result: "Validation") -> Answer:
    """PyTorch's own result and one entry an artifact."""
    return {
        **_VERSION,
        "images": result.images,
        "reference": dataclasses.asdict(result.reference),
        "artifacts": [dataclasses.asdict(item) for item in result.artifacts],
    }


def inspection_json(inspection: "Inspection") -> Answer:
    """One file."""
    return {**_VERSION, **_flat(inspection)}


def bundle_json(bundle: "Bundle", inspected: "Sequence[Inspection]") -> Answer:
    """The manifest, each artifact with what was seen of it."""
    manifest = bundle.manifest.model_dump(mode="json")
    artifacts = [
        {**_flat(inspection), **item} for item, inspection in zip(manifest["artifacts"], inspected, strict=True)
    ]
    return {**manifest, "artifacts": artifacts}


def _flat(inspection: "Inspection") -> Answer:
    """What the file says of itself, and beside it what was seen in its runtime."""
    found = dataclasses.asdict(inspection)
    return {**found.pop("description"), **found}


def survey_json(found: "Survey") -> Answer:
    """The survey as it is."""
    return {**_VERSION, **dataclasses.asdict(found)}
