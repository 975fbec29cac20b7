"""The outputs that a program must have for a task."""

from collections.abc import Sequence
from typing import Any

TENSORS = "tensors"


def class_count(task: str, names: Sequence[str], shapes: Sequence[Sequence[Any]]) -> int:
    """Return the number of classes of a program that is for a task; 0 of tensors without meaning.

    Args:
        task: key of `tasks.TASKS`.
        names: of the outputs.
        shapes: of the outputs, the batch first.

    Raises:
        ValueError: the outputs are not those of the task.
    """
    if task == TENSORS:
        return 0
    found = dict(zip(names, shapes, strict=True))
    ranks = {"classification": {"logits": 2}, "segmentation": {"logits": 4}, "detection": {"boxes": 3, "scores": 3}}
    wanted = ranks.get(task)
    if wanted is None:
        raise ValueError(f"a program cannot be for the task {task!r}; choose from {', '.join([TENSORS, *ranks])}")
    if {name: len(shape) for name, shape in found.items()} != wanted:
        told = ", ".join(f"{name} of {rank} axes" for name, rank in wanted.items())
        raise ValueError(f"the task {task} has the outputs {told}; the program has {', '.join(names)}")
    counted = found["scores"][2] if task == "detection" else found["logits"][1]
    if type(counted) is not int or counted < 1:
        raise ValueError(f"the number of classes is {counted}")
    return counted
