"""Python processes of our own that do what may crash, and end when the one that started them ends."""

import os
import sys
import threading


def python_command(module: str) -> list[str]:
    """The command that runs a module; -P keeps the working directory from providing modules."""
    return [sys.executable, "-P", "-m", module]


def end_with_parent() -> None:
    """Make this process end when its standard input does, which is when the parent ends, however it ends."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    sys.stdin.read()
    os._exit(1)
