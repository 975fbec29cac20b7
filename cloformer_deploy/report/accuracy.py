"""The result of an accuracy search, in words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloformer_deploy.backends.registry import recipe_of
from cloformer_deploy.tasks import task_of

if TYPE_CHECKING:
    from cloformer_deploy.exporting.jobs import Accuracy
    from cloformer_deploy.exporting.pipeline import Export


def accuracy_lines(made: "Export") -> Iterator[str]:
    """Yield one line for each artifact that was searched for under a limit."""
    for path, check in made.checks.items():
        if check.accuracy is not None:
            (artifact,) = (item for item in made.bundle.manifest.artifacts if item.path == path)
            recipe = recipe_of(artifact.key)
            outside = recipe.outside if recipe is not None else ""
            yield f"{path}: {_line(check.accuracy, task_of(made.bundle.manifest).metric_title, outside)}"


def _line(found: "Accuracy", metric_title: str, outside: str) -> str:
    low, high = found.drop_ci95_pp
    drop = f"{metric_title} drops {found.drop_pp:.2f} pp ({low:.2f}, {high:.2f}) on {found.n} images"
    used = f"{found.evaluations} of at most {found.budget} evaluations"
    excluded = ", ".join(found.excluded_layers) or "nothing"
    return f"{drop}, within {found.max_drop_pp:g}; {used}; kept in {outside}: {excluded}."
