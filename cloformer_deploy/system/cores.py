"""The number of processor cores that this process may use, and of threads that its parts may have."""

import os


def usable_cores() -> int:
    """Return the number of cores that this process may run on.

    A container or `taskset` often allows fewer than the machine has.
    """
    # `os.process_cpu_count` needs Python 3.13. macOS and Windows have no affinity that could be read.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_each(processes: int) -> int:
    """Return the number of threads for each of some processes that run side by side, at least 1.

    Two processes with as many threads as there are cores are several times slower than one after the other. The
    variable OMP_NUM_THREADS is an upper limit.
    """
    share = max(1, usable_cores() // processes)
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(limit)) if limit.isdecimal() and int(limit) > 0 else share
