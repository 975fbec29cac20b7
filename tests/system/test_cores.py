"""The number of processor cores that a process may use."""

import os
import sys

import pytest

from cloformer_deploy.system.cores import threads_each, usable_cores


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process be kept to some cores")
def test_only_the_cores_a_process_may_run_on_count() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores() == len(allowed)


def test_threads_are_shared_and_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_each(1) == usable_cores()
    assert threads_each(10 * usable_cores()) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads_each(1) == 1
    for other in ("0", "many", "1000"):
        monkeypatch.setenv("OMP_NUM_THREADS", other)
        assert threads_each(1) == usable_cores()
