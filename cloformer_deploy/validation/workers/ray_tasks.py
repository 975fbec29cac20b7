"""Work on a Ray cluster: each shard is a task on one core, which Ray runs again if its worker or node is lost."""

import pickle
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloformer_deploy.data.batches import LOADING_THREADS
from cloformer_deploy.errors import CloformerDeployError, MissingPartError, ToolError
from cloformer_deploy.progress import Progress
from cloformer_deploy.system.text import counted
from cloformer_deploy.validation.workers.base import Found, Shard, Work, load
from cloformer_deploy.validation.workers.environment import own_version
from cloformer_deploy.validation.workers.remote import Answer, Assignment, Task

_ATTEMPTS = 4
"""Most attempts for a shard whose worker is lost; a shard that ends each worker itself must not be tried for ever."""
_STARTS_WITHIN_S = 180.0
"""Time for a node to start a worker and import PyTorch."""
_LOOKS_EVERY_S = 2.0
_CLEANS_WITHIN_S = 10.0


class RayWorkers:
    """See `Workers`; Ray is ready (`cluster.joined`).

    Args:
        progress: is told of nodes that are lost, and of data that must be sent.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told: set[str] = set()

    def map(self, work: Work, shards: Iterator[Shard]) -> Iterator[Found]:
        """See `Workers.map`."""
        run = _Run(work, self._progress, self._told)
        try:
            yield from run.results(shards)
        finally:
            run.end()


class _Run:
    """One run of a work.

    Args:
        work: the work.
        progress: see `RayWorkers`.
        told: what was told already, of what is told once for all runs.

    Attributes:
        files: references of the work's files, once a worker lacks them.
        sends_images: true once a worker does not see the images.
    """

    def __init__(self, work: Work, progress: Progress, told: set[str]) -> None:
        import ray

        self._work, self._progress, self._told = work, progress, told
        self._name = secrets.token_hex(16)
        assignment = Assignment(self._name, str(Path.cwd()), work.environment(), work)
        self._expected = assignment.environment
        self._assignment = ray.put(pickle.dumps(assignment))
        self._files: Mapping[str, Any] | None = None
        self._sends_images = False
        self._waiting: dict[Any, tuple[int, Shard]] = {}
        """Place in order, and shard, of each task that is not done."""
        self._done: dict[int, Found | CloformerDeployError] = {}
        """Answers that came before their turn, by shard; an error is raised when its turn comes."""
        self._nodes, self._looked = _nodes(), time.monotonic()
        self._call = _remote()

    def results(self, shards: Iterator[Shard]) -> Iterator[Found]:
        """Yield the results of each shard, in order."""
        import ray

        self._check_nodes()
        place, submitted, following = 0, 0, True
        with ThreadPoolExecutor(LOADING_THREADS) as loaders:
            self._loaders = loaders
            while True:
                while following and len(self._waiting) < max(1, 2 * _cores(self._nodes)):
                    following = self._submit_next(submitted, shards)
                    submitted += following
                if place in self._done:
                    found = self._done.pop(place)
                    if isinstance(found, CloformerDeployError):
                        raise found
                    yield found
                    place += 1
                elif self._waiting:
                    ready, _ = ray.wait(list(self._waiting), num_returns=1, timeout=_LOOKS_EVERY_S)
                    for ref in ready:
                        self._take(ref)
                    self._look_after_nodes(every_s=_LOOKS_EVERY_S)
                else:
                    self._look_after_nodes()
                    return

    def _submit_next(self, place: int, shards: Iterator[Shard]) -> bool:
        """Submit the next shard; False after the last, or after one that cannot be taken."""
        try:
            shard = next(shards, None)
        except CloformerDeployError as error:
            self._done[place] = error
            return False
        if shard is None:
            return False
        if shard.indices:
            self._submit(place, shard)
        else:
            self._done[place] = [()] * len(shard.wanted)
        return True

    def _submit(self, place: int, shard: Shard) -> None:
        """Submit a shard, unless its images cannot be used."""
        try:
            if self._sends_images:
                task = Task(self._name, shard, lot=load(self._work, shard, self._loaders.map))
            else:
                task = Task(self._name, shard, [self._work.images.identity(index) for index in shard.indices])
        except CloformerDeployError as error:
            self._done[place] = error
        else:
            self._waiting[self._called(task)] = (place, shard)

    def _called(self, task: Task, **options: Any) -> Any:
        remote = self._call.options(**{"num_cpus": 1, "max_retries": _ATTEMPTS - 1, **options})
        return remote.remote("answer", pickle.dumps(task), [self._assignment], self._files)

    def _take(self, ref: Any) -> None:
        """Keep the results of a task that is done, or submit it again with what it lacked."""
        import ray

        place, shard = self._waiting.pop(ref)
        first, last = shard.indices[0] + 1, shard.indices[-1] + 1
        try:
            answer = self._understood(ray.get(ref))
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())
            raise ToolError(
                f"Ray gave up on images {first} to {last} after {_ATTEMPTS} attempts: {reason}",
                "a worker may lack memory: give Ray fewer cores (ray start --num-cpus N), or see its logs",
            ) from error
        if answer.lacks is not None:
            self._send(answer)
            self._submit(place, shard)
        elif answer.error is not None:
            self._done[place] = answer.error
        else:
            self._done[place] = answer.found or []

    def _send(self, answer: Answer) -> None:
        """Send what a worker lacks with every task from now on."""
        import ray

        node, listed, warn = _name(self._nodes, answer.node), self._work.files, self._progress.warn
        if answer.lacks == "images" and not self._sends_images:
            self._sends_images = True
            self._tell(warn, f"{node} does not see {self._work.images.name} as it is here: images are sent to it")
        elif answer.lacks == "files" and self._files is None and listed is not None:
            self._files = {name: ray.put(path.read_bytes()) for name, path in listed.paths().items()}
            self._tell(warn, f"{node} does not see {listed.root} as it is here: its files are sent to it")

    def _tell(self, say: Callable[[str], None], text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            say(text)

    def _check_nodes(self) -> None:
        """Refuse nodes of another environment, before any image is run."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = {
            node: self._called(
                Task(self._name), num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            )
            for node in self._nodes
        }
        if not asked:
            raise _no_workers()
        nodes = counted(len(asked), "node")
        self._tell(self._progress.step, f"Asking {nodes} of the Ray cluster for runtimes and their versions")
        for node, ref in asked.items():
            try:
                self._understood(ray.get(ref, timeout=_STARTS_WITHIN_S))
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as error:
                if node not in _nodes():
                    continue
                told = f"{_name(self._nodes, node)} cannot run a worker: {' '.join(str(error).split())}"
                raise ToolError(told, "take it out of the cluster (ray stop), or see Ray's logs there") from error
        self._look_after_nodes()
        if not self._nodes:
            raise _no_workers()

    def _understood(self, answer: Any) -> Answer:
        """Return an answer, unless it is of another environment.

        Raises:
            MissingPartError: it is.
        """
        if not isinstance(answer, Answer):
            theirs, node = answer
            raise self._refused({"cloformer-deploy": theirs}, node)
        if answer.environment is not None:
            raise self._refused(answer.environment, answer.node)
        if isinstance(answer.error, MissingPartError):
            name = _name(self._nodes, answer.node)
            raise MissingPartError(f"{name}: {answer.error.message}", f"on {name}: {answer.error.hint}")
        return answer

    def _refused(self, theirs: Mapping[str, str], node: str) -> MissingPartError:
        name, mine = _name(self._nodes, node), {"cloformer-deploy": own_version(), **self._expected}
        other = [f"{part} {theirs[part]}, here {mine[part]}" for part in theirs if theirs[part] != mine.get(part)]
        return MissingPartError(
            f"results of {name} would differ, for it has {'; '.join(other)}",
            f"install on {name} what is here (pip freeze here, pip install -r there), or take it out of the cluster",
        )

    def _look_after_nodes(self, every_s: float = 0.0) -> None:
        """Tell of nodes that are lost, unless that was done a short while ago; fail if work is left and no node."""
        if time.monotonic() - self._looked < every_s:
            return
        self._looked, now = time.monotonic(), _nodes()
        for node in self._nodes.keys() - now.keys():
            self._progress.warn(f"{_name(self._nodes, node)} is lost: its shards are run again on other nodes")
        self._nodes = now
        if self._waiting and not now:
            raise _no_workers()

    def end(self) -> None:
        """Give up what is not done, and remove what was sent."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        for ref in self._waiting:
            ray.cancel(ref, force=True)
        if self._files is None:
            return
        cleaned = [
            self._call.options(
                num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote("clean_up", self._name)
            for node in _nodes()
        ]
        with suppress(ray.exceptions.RayError):
            ray.wait(cleaned, num_returns=len(cleaned), timeout=_CLEANS_WITHIN_S)


def _remote() -> Any:
    """Return the function that Ray runs. It is sent by value: a node may lack this package, or have another version."""
    import ray

    mine = own_version()

    def call(name: str, *arguments: Any) -> Any:
        from importlib import import_module

        import ray

        try:
            theirs = import_module("cloformer_deploy.validation.workers.environment").own_version()
            module = import_module("cloformer_deploy.validation.workers.remote")
        except (ImportError, AttributeError):
            theirs = "not installed, or of another kind"
        if theirs != mine:
            return theirs, ray.get_runtime_context().get_node_id()
        return getattr(module, name)(*arguments)

    return ray.remote(call)


def _nodes() -> dict[str, Mapping[str, Any]]:
    """Return Ray's description of each node that is alive and has cores, by its name."""
    import ray

    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1}


def _cores(nodes: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(int(node["Resources"]["CPU"]) for node in nodes.values())


def _name(nodes: Mapping[str, Mapping[str, Any]], node: str) -> str:
    """Return a node's address for people."""
    return f"worker {nodes[node]['NodeName'] if node in nodes else node[:8]}"


def _no_workers() -> ToolError:
    return ToolError("no node of the Ray cluster is left that has a core", "see ray status, and start nodes again")
