"""Faults of segmenters and detectors: how many there are, what they change, and that those of outputs are named."""

import copy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.faults.catalogue import FAULTS, Fault
from benchmarks.faults.dense import DENSE_FAULTS, SIDE
from cloformer_deploy.data import Preprocessing, RenderedScenes
from cloformer_deploy.networks import NETWORKS
from cloformer_deploy.networks.cloformer import VARIANTS
from cloformer_deploy.networks.cloformer.architecture import HeadName
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.validation import reference_outputs
from cloformer_deploy.validation.diagnosis import diagnose
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from tests.tiny import SCENE_BOXES, SCENES, as_trained_network

pytestmark = pytest.mark.integration

HEADS: dict[str, HeadName] = {"segmentation": "semantic_fpn", "detection": "anchor_free"}
WEIGHTS: dict[str, Path] = {"segmentation": SCENES, "detection": SCENE_BOXES}
EDITED = [fault for fault in DENSE_FAULTS if fault.edit is not None]
WRAPPED = {fault.what: fault for fault in DENSE_FAULTS if fault.wrapper is not None}
PREPROCESSING = Preprocessing.published(SIDE, SIDE, margin=False)


def name_of(fault: Fault) -> str:
    return fault.name


def test_there_are_five_for_each_task_and_format() -> None:
    assert set(Counter((fault.task, fault.format) for fault in DENSE_FAULTS).values()) == {5}
    assert len({fault.name for fault in (*FAULTS, *DENSE_FAULTS)}) == 90
    assert sum(fault.precision == "int8" for fault in DENSE_FAULTS) == 12


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {task: as_trained_network(VARIANTS["xxs"].of_head(head, 20), 0) for task, head in HEADS.items()}


@pytest.mark.parametrize("fault", EDITED, ids=name_of)
def test_an_edit_changes_the_layers_it_names(fault: Fault, networks: dict[str, nn.Module]) -> None:
    edited = copy.deepcopy(networks[fault.task])
    assert fault.edit is not None
    fault.edit(edited)
    before, after = networks[fault.task].state_dict(), edited.state_dict()
    changed = {name.rpartition(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    if fault.kind == "layer":
        assert changed == set(fault.layers)
    else:
        assert changed
        assert all(path.startswith(("segment.classify", "detect.scores")) for path in changed)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    (batch,) = RenderedScenes("test", range(2)).batches(PREPROCESSING, 2)
    return batch.pixels


@pytest.mark.parametrize("what", WRAPPED)
def test_a_changed_output_is_named(what: str, pixels: NDArray[np.uint8]) -> None:
    fault = WRAPPED[what]
    task, model = TASKS[fault.task], build_model(load_checkpoint(WEIGHTS[fault.task]))
    assert fault.wrapper is not None
    assert fault.named is not None
    spoilt = fault.wrapper(copy.deepcopy(model)).eval()
    found = reference_outputs(spoilt, PREPROCESSING.normalize(pixels), task.outputs)
    mistaken = [
        (what, lambda images, wrong=wrong: reference_outputs(wrong, images, task.outputs))
        for what, wrong in NETWORKS["cloformer"].mistakes(model)
    ]
    said = diagnose(
        task,
        lambda images: reference_outputs(model, images, task.outputs),
        PREPROCESSING,
        pixels,
        found,
        None,
        mistaken,
    )
    assert any(text.startswith(fault.named) for text in said), said
