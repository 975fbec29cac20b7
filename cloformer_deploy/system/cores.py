"""The number of processor cores that this process may use."""

import os


def usable_cores() -> int:
    """Return the number of cores that this process may run on.

    A container or `taskset` often allows fewer than the machine has.
    """
    # `os.process_cpu_count` needs Python 3.13. macOS and Windows have no affinity that could be read.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
