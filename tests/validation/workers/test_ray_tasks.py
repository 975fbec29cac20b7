"""Work on Ray's own workers: order, errors in their place, workers that are killed, and those that are refused."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloformer_deploy.errors import CloformerDeployError, DataError, MissingPartError, ToolError
from cloformer_deploy.progress import Silent
from cloformer_deploy.validation.cache import Cache
from cloformer_deploy.validation.cached_inference import BATCH_SIZE, results
from cloformer_deploy.validation.workers import LocalWorkers, RayWorkers, Workers
from cloformer_deploy.validation.workers.base import Work
from cloformer_deploy.validation.workers.cluster import joined
from tests.validation.workers.numbered import BROKEN, FAILING, Doubled, Numbered

pytestmark = pytest.mark.integration

PLAIN = Numbered(tuple(range(100, 200)))


class Told(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """Ray on this machine for all tests of this file: it takes seconds to start."""
    with joined(None, Silent()):
        yield


def found(work: Work, workers: Workers, cache: Cache | None = None) -> list[list[bytes]]:
    kept: list[list[bytes]] = [[], []]
    for _, lots in results(work, cache, workers):
        for each, new in zip(kept, lots, strict=True):
            each += new
    return kept


@contextmanager
def refused(kind: type[CloformerDeployError], message: str) -> Iterator[None]:
    with pytest.raises(kind, match=message) as error:
        yield
    assert type(error.value) is kind
    assert error.value.hint


def test_results_are_those_of_this_process_in_order() -> None:
    assert found(Doubled(PLAIN), RayWorkers(Silent())) == found(Doubled(PLAIN), LocalWorkers())


def test_only_what_the_cache_lacks_is_run(tmp_path: Path) -> None:
    cache, work = Cache(tmp_path), Doubled(PLAIN)
    found(Doubled(PLAIN.select(range(3, 100, 7))), RayWorkers(Silent()), cache)
    assert found(work, RayWorkers(Silent()), cache) == found(work, LocalWorkers())
    assert found(Doubled(PLAIN, deadly=True), RayWorkers(Silent()), cache) == found(work, LocalWorkers())


def test_images_that_workers_do_not_see_are_sent() -> None:
    told, unseen = Told(), Numbered(PLAIN.numbers, owner=os.getpid())
    assert found(Doubled(unseen), RayWorkers(told)) == found(Doubled(PLAIN), LocalWorkers())
    assert len(told.warnings) == 1
    assert re.fullmatch(r"worker \S+ does not see numbers as it is here: images are sent to it", told.warnings[0])


@pytest.mark.parametrize(("number", "kind"), [(BROKEN, DataError), (FAILING, ToolError)])
@pytest.mark.parametrize("sent", [False, True])
def test_errors_are_raised_in_their_place(number: int, kind: type[CloformerDeployError], *, sent: bool) -> None:
    numbers = (*range(100, 150), number, *range(150, 200))
    work = Doubled(Numbered(numbers, os.getpid() if sent else None))
    done: list[int] = []
    with refused(kind, f"image {number}"):
        done.extend(place.stop for place, _ in results(work, None, RayWorkers(Silent())))
    assert done == [BATCH_SIZE, 2 * BATCH_SIZE, 3 * BATCH_SIZE]


def test_a_killed_worker_costs_its_shards_only(tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    assert found(Doubled(PLAIN, lost), RayWorkers(Silent())) == found(Doubled(PLAIN), LocalWorkers())
    assert lost.exists()


def test_a_shard_that_ends_every_worker_is_given_up() -> None:
    with refused(ToolError, r"Ray gave up on images 1 to 16 after 4 attempts"):
        found(Doubled(PLAIN.select(range(16)), deadly=True), RayWorkers(Silent()))


def test_workers_of_another_version_are_refused_by_name() -> None:
    with refused(MissingPartError, r"^results of worker [\d.]+ would differ, for it has half 1.6, here 1.5$"):
        found(Doubled(PLAIN, asker=os.getpid()), RayWorkers(Silent()))


def test_workers_that_lack_a_part_are_refused_by_name() -> None:
    with refused(MissingPartError, r"^worker [\d.]+: half of it is not installed$"):
        found(Doubled(PLAIN, lacking=os.getpid()), RayWorkers(Silent()))
