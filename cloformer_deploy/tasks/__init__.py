"""Tasks that a network can be trained for: one file per task, behind the Protocol of `base`, in one registry.

To add a task: a file with an object that follows `base.Task`, and an entry in `TASKS`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from cloformer_deploy.tasks.base import ClassChange, Comparison, Output, Outputs, Scores, Task
from cloformer_deploy.tasks.classification import Classification
from cloformer_deploy.tasks.detection import Detection
from cloformer_deploy.tasks.features import Features
from cloformer_deploy.tasks.multi_label import MultiLabel
from cloformer_deploy.tasks.segmentation import Segmentation
from cloformer_deploy.tasks.tensors import Tensors

_KNOWN: tuple[Task, ...] = (Classification(), Segmentation(), Detection(), Features(), Tensors())
TASKS: dict[str, Task] = {item.name: item for item in _KNOWN}
_OF_SIGMOID: dict[str, Task] = {"classification": MultiLabel()}


class Described(Protocol):
    """Something that says its task, such as a manifest."""

    @property
    def task(self) -> str:
        """Key of `TASKS`."""
        ...

    @property
    def scores(self) -> Scores:
        """The function that turns logits into scores."""
        ...

    @property
    def architecture(self) -> Mapping[str, Any]:
        """The network's configuration; of a program its interface."""
        ...


def task_of(described: Described) -> Task:
    """Return the task of a manifest or of a source."""
    if described.task == Tensors.name:
        return Tensors(described.architecture["outputs"])
    return _OF_SIGMOID[described.task] if described.scores == "sigmoid" else TASKS[described.task]


def takes_sigmoid(task: str) -> bool:
    """Tell whether scores of a task may be a sigmoid's."""
    return task in _OF_SIGMOID


__all__ = ["TASKS", "ClassChange", "Comparison", "Output", "Outputs", "Scores", "Task", "takes_sigmoid", "task_of"]
