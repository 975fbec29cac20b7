"""Workers that run images: threads of this process, or a Ray cluster.

To add one: a file with a class that follows `base.Workers`, and a branch in `workers_of`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cloformer_deploy.errors import RequestError
from cloformer_deploy.progress import Progress
from cloformer_deploy.validation.workers.base import Workers
from cloformer_deploy.validation.workers.cluster import joined
from cloformer_deploy.validation.workers.local import LocalWorkers
from cloformer_deploy.validation.workers.ray_tasks import RayWorkers

__all__ = ["LocalWorkers", "RayWorkers", "Workers", "joinable", "workers_of"]


@contextmanager
def workers_of(name: str | None, progress: Progress) -> Iterator[Workers]:
    """Have workers ready within the context.

    Args:
        name: `ray` starts Ray on this machine, `ray:HOST:PORT` joins a cluster; None is this process.
        progress: receives each step.

    Raises:
        RequestError: there are no workers of this name.
        MissingPartError: Ray is not installed.
        ToolError: the cluster cannot be joined.
    """
    with joinable(name, progress) as workers:
        yield LocalWorkers() if workers is None else RayWorkers(progress)


@contextmanager
def joinable(name: str | None, progress: Progress) -> Iterator[str | None]:
    """Have workers ready within the context, for other processes of this machine too.

    Args:
        name: see `workers_of`.
        progress: receives each step.

    Returns:
        The name that other processes give to `workers_of`.

    Raises:
        RequestError: there are no workers of this name.
        MissingPartError: Ray is not installed.
        ToolError: the cluster cannot be joined.
    """
    if name is None:
        yield None
        return
    kind, _, address = name.partition(":")
    if kind != "ray" or name == "ray:":
        raise RequestError(f"the workers {name!r} are not known", "give ray, or ray:HOST:PORT of a Ray cluster")
    with joined(address or None, progress) as joined_at:
        yield f"ray:{joined_at}"
