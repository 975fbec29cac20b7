"""Answers of the bundled weights to images that their cards' figures were measured on.

Of classifiers the images that they have wrong; of segmenters and detectors the score on some scenes.

python -m tests.reference_answers ../shared

writes reference_answers.json, which takes minutes; `test_reference_weights.py` holds some of the images to it.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cloformer_deploy.data import Dataset, Preprocessing, RenderedImages, open_folder
from cloformer_deploy.tasks import TASKS
from cloformer_deploy.validation import reference_outputs
from cloformer_deploy.weights.checkpoints import build_model, load_checkpoint
from cloformer_deploy.weights.zoo import resolve_weights

RECORD = Path(__file__).with_suffix(".json")


def images_of(name: str, shared: Path) -> Dataset:
    """Return the 1,000 images of a card."""
    if name == "xxs-rendered":
        return RenderedImages("test", range(1000))
    # The folders are named by WordNet ids, in the order of the classes; the labels are English.
    return open_folder(shared / "imagenette" / "drift224", 10, None)


def wrong_images(name: str, images: Dataset, indices: Sequence[int]) -> list[int]:
    """Return those of some images whose class PyTorch does not find."""
    model = build_model(load_checkpoint(resolve_weights(name)))
    preprocessing = Preprocessing.published(224, 224)
    labels = images.labels or ()
    answers: list[int] = []
    for batch in images.select(indices).batches(preprocessing, 20):
        normalized = preprocessing.normalize(batch.pixels)
        (logits,) = reference_outputs(model, normalized, TASKS["classification"].outputs).values()
        answers += logits.argmax(axis=1).tolist()
    return [index for index, answer in zip(indices, answers, strict=True) if answer != labels[index]]


def score_on_scenes(name: str) -> float:
    """Return PyTorch's mean IoU or average precision, 0..1, on every fifth of the card's 500 scenes."""
    checkpoint = load_checkpoint(resolve_weights(name))
    model, task = build_model(checkpoint), TASKS[checkpoint.task]
    preprocessing = Preprocessing.published(224, 224, margin=False)
    images = task.open_data(None, checkpoint.num_classes, checkpoint.labels).select(range(0, 500, 5))
    evidence = []
    for batch in images.batches(preprocessing, 20):
        outputs = reference_outputs(model, preprocessing.normalize(batch.pixels), task.outputs)
        evidence += task.evidence(outputs, outputs, batch.truths)
    score = task.compare(evidence, evidence, None).score
    assert score is not None
    return score


SCENES = ("xxs-scenes-segment", "xxs-scenes-detect")

if __name__ == "__main__":
    sets = {name: images_of(name, Path(sys.argv[1])) for name in ("xxs-rendered", "xxs-imagenette")}
    record: dict[str, object] = {name: wrong_images(name, images, range(len(images))) for name, images in sets.items()}
    record |= {name: score_on_scenes(name) for name in SCENES}
    RECORD.write_text(json.dumps(record) + "\n")
