"""The part that runs in a Ray worker: open the work once in each process, and carry out shards of it."""

import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cloformer_deploy.errors import BundleError, CloformerDeployError, DataError, ToolError
from cloformer_deploy.validation.workers.base import Found, Lot, Shard, Work, load, run


@dataclass(frozen=True)
class Assignment:
    """The part that all tasks of a run have in common.

    Attributes:
        run: random name of the run.
        folder: working folder of the process that asks, from which relative paths go.
        environment: what results depend on in the environment of the process that asks.
        work: the work.
    """

    run: str
    folder: str
    environment: Mapping[str, str]
    work: Work


@dataclass(frozen=True)
class Answer:
    """The answer of a task; exactly one of the first four is there.

    Attributes:
        found: results of the shard.
        lacks: what the worker does not see as it is where the work comes from, and must be sent.
        environment: this process's, where it is another than the assignment's.
        error: an error to be shown to the user.
        node: Ray's name of the node.
    """

    found: Found | None = None
    lacks: Literal["files", "images"] | None = None
    environment: Mapping[str, str] | None = None
    error: CloformerDeployError | None = None
    node: str = ""


@dataclass(frozen=True)
class Task:
    """A shard to be carried out; None only asks for the environment.

    Attributes:
        run: the assignment's.
        shard: the images.
        identities: `Dataset.identity` of each image.
        lot: the images themselves, for workers that do not see them.
    """

    run: str
    shard: Shard | None = None
    identities: Sequence[str] = ()
    lot: Lot | None = None


def answer(task: bytes, assignment: Sequence[Any], files: Mapping[str, Any] | None) -> Answer:
    """Carry out a pickled task.

    Args:
        task: the task.
        assignment: Ray's reference of the pickled assignment, in a list, for which Ray does not fetch it each time.
        files: references of the content of `Work.files`, by relative path; None if they were not sent.
    """
    import ray

    wanted: Task = pickle.loads(task)  # noqa: S301 - from the process that could run any code here anyway
    node = ray.get_runtime_context().get_node_id()
    try:
        return replace(_answer(wanted, assignment, files), node=node)
    except CloformerDeployError as error:
        return Answer(error=error, node=node)


def _answer(task: Task, assignment: Sequence[Any], files: Mapping[str, Any] | None) -> Answer:
    given = _Held.get(task.run, assignment)
    if _Held.environment != given.environment:
        return Answer(environment=_Held.environment)
    if task.shard is None:
        return Answer(found=[])
    work = _Held.placed(given, files)
    if work is None:
        return Answer(lacks="files")
    if task.lot is None and not _sees(work, task):
        return Answer(lacks="images")
    work.open(task.shard.subjects)
    lot = task.lot or load(work, task.shard)
    lot = replace(lot, prepared=work.prepare(lot.pixels))
    return Answer(found=[run(work, task.shard, lot, subject) for subject in range(len(task.shard.wanted))])


class _Held:
    """The one run that this process works for."""

    assignment: Assignment | None = None
    environment: Mapping[str, str] | None = None
    work: Work | None = None

    @classmethod
    def get(cls, run: str, assignment: Sequence[Any]) -> Assignment:
        import ray

        if cls.assignment is None or cls.assignment.run != run:
            os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as in the command line's own process
            found: Assignment = pickle.loads(ray.get(assignment[0]))  # noqa: S301 - see `answer`
            with suppress(OSError):  # what is not there is sent
                os.chdir(found.folder)
            cls.environment, cls.work = found.work.environment(), None
            cls.assignment = found
        return cls.assignment

    @classmethod
    def placed(cls, assignment: Assignment, files: Mapping[str, Any] | None) -> Work | None:
        """Return the work where its files are: at their own path, or copied from what was sent; None if nowhere."""
        if cls.work is None:
            work, listed = assignment.work, assignment.work.files
            try:
                if listed is not None:
                    listed.verify()
            except BundleError:
                if files is None:
                    return None
                work = work.at(_copied(folder_of(assignment.run), files))
            cls.work = work
        return cls.work


def _sees(work: Work, task: Task) -> bool:
    """Tell whether the images at their own paths are those that the task is about."""
    shard = task.shard
    try:
        return shard is not None and [work.images.identity(index) for index in shard.indices] == list(task.identities)
    except DataError:
        return False


def folder_of(run: str) -> Path:
    """Return the folder of a node for what was sent to it."""
    return Path(tempfile.gettempdir(), f"cloformer-deploy-{run}")


def _copied(folder: Path, files: Mapping[str, Any]) -> Path:
    """Write files into a folder, whole or not at all: processes of a node share it."""
    import ray

    if not folder.exists():
        making = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            for name, content in files.items():
                path = making / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(ray.get(content))
            making.rename(folder)
        except OSError as error:
            shutil.rmtree(making)
            if not folder.exists():  # else another process was first
                hint = "make room there, or let the node see them at their own path"
                raise ToolError(f"files cannot be copied to {folder}: {error}", hint) from error
    return folder


def clean_up(run: str) -> None:
    """Remove what was sent to this node."""
    shutil.rmtree(folder_of(run), ignore_errors=True)
