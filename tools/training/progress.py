"""Telling the user how it goes."""

import sys


def say(text: str) -> None:
    """Write a line to stderr, at once."""
    print(text, file=sys.stderr, flush=True)
