"""How many cores there are to work on."""

import os


def usable_cores() -> int:
    """The cores this process may run on; a container or `taskset` often allows fewer than the machine has."""
    # `os.process_cpu_count` is Python 3.13's; macOS and Windows have no affinity to ask for.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
