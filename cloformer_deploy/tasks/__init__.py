"""Tasks that a network can be trained for: one file per task, behind the Protocol of `base`, in one registry.

To add a task: a file with an object that follows `base.Task`, and an entry in `TASKS`.
"""

from cloformer_deploy.tasks.base import ClassChange, Comparison, Output, Outputs, Task
from cloformer_deploy.tasks.classification import Classification

TASKS: dict[str, Task] = {item.name: item for item in (Classification(),)}

__all__ = ["TASKS", "ClassChange", "Comparison", "Output", "Outputs", "Task"]
