"""A planted file computes what the edited model does, in every format and precision."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from benchmarks.faults import edits
from benchmarks.faults.edits import Edit
from benchmarks.faults.planting import plant
from cloformer_deploy.backends.registry import runtime_for
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data import probe_images
from cloformer_deploy.networks.cloformer import CloFormer
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.tasks.distances import image_distances, summarize
from cloformer_deploy.validation import artifact_outputs, reference_outputs
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint

pytestmark = pytest.mark.integration

EDITS: dict[str, Edit] = {
    "zeroed": edits.zeroed("layers.1.blocks.0.attn.qkvs.0"),
    "permuted": edits.rolled("layers.2.blocks.0.attn.convs.0"),
    "transposed": edits.takes_transposed,
    "relabeled": edits.labels_in_order(lambda classes: classes.roll(1), (edits.HEAD,)),
}
LEAST_DB = {"fp32": 100.0, "fp16": 50.0, "int8": 20.0}


@pytest.mark.parametrize("name", EDITS)
def test_floats(name: str, image_bundle: Bundle, tmp_path: Path) -> None:
    holds(image_bundle, image_bundle.manifest.artifacts, EDITS[name], tmp_path)


@pytest.mark.parametrize("name", EDITS)
def test_integers(name: str, tiny_bundle: Bundle, tmp_path: Path) -> None:
    integers = [item for item in tiny_bundle.manifest.artifacts if item.precision == "int8"]
    holds(tiny_bundle, integers, EDITS[name], tmp_path)


def holds(healthy: Bundle, artifacts: Sequence[Artifact], edit: Edit, folder: Path) -> None:
    size, outputs = healthy.manifest.preprocessing, TASKS[healthy.manifest.task].outputs
    model = cast(CloFormer, build_model(load_checkpoint(healthy.weights_path)))
    edited = copy.deepcopy(model)
    edit(edited)
    pixels = probe_images(3, size)
    sound, expected = (reference_outputs(each, size.normalize(pixels), outputs) for each in (model, edited))
    for artifact in artifacts:
        before = healthy.path(artifact).stat().st_mtime_ns
        bundle, changed = plant(healthy, artifact, model, edit, folder / artifact.path)
        bundle.verify()
        assert changed
        assert healthy.path(artifact).stat().st_mtime_ns == before
        (listed,) = bundle.manifest.artifacts
        session = runtime_for(artifact.format).open(bundle.path(listed))
        found = artifact_outputs(session, pixels, size, artifact.input.kind, expected)
        near, far = (summarize(image_distances(each, found, outputs)).sqnr_db for each in (expected, sound))
        assert near is not None
        assert far is not None
        assert near > max(LEAST_DB[artifact.precision], far + 6), artifact.path
