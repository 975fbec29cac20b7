"""Shared by several commands: options, parsing of values, progress on stderr, JSON on stdout."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloformer_deploy.errors import CloformerDeployError, RequestError
from cloformer_deploy.networks.base import COLORS, Color
from cloformer_deploy.system.text import json_text, visible

if TYPE_CHECKING:
    from rich.progress import TaskID
    from rich.table import Table

    from cloformer_deploy.validation.cache import Cache

DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Images: one sub-folder per class, images/ with masks/, COCO annotations, or no labels.",
        metavar="PATH",
        show_default="rendered images",
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        help="Use at most N images, spread evenly over the classes; of rendered images, exactly N.",
        metavar="N",
        show_default="all",
    ),
]
NpuOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Run the artifacts for this NPU in its simulator, and no others: hexagon-v75, ... (see docs/npu.md).",
        metavar="DEVICE",
        show_default="the formats' own runtimes",
    ),
]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        help="Run images on all cores of this machine (ray) or of a cluster (ray:HOST:PORT); see docs/scale.md.",
        metavar="ray[:ADDRESS]",
        show_default="this process",
    ),
]
ThreadsOption = Annotated[int, typer.Option(min=1, max=1024, help="Threads of each runtime.", metavar="N")]
CoresOption = Annotated[
    str | None,
    typer.Option(help="Run only on these cores, such as 0,2-3.", metavar="LIST", show_default="chosen by the system"),
]
OverlayOption = Annotated[
    Path | None,
    typer.Option(
        help="Write each tensor's figures as JSON for Model Explorer, which shows them on the graph (docs/overlay.md).",
        metavar="FILE",
        show_default="none",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(help="Limits, in TOML.", metavar="FILE", show_default="drift.toml if it exists"),
]
BaselineOption = Annotated[
    Path | None,
    typer.Option(help="Results of the last accepted build, to compare with.", metavar="FILE", show_default="none"),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(help="Folder for cached results.", metavar="DIR", show_default="~/.cache/cloformer-deploy"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


def parse_size(text: str, option: str = "--input-size") -> tuple[int, int]:
    """Parse `N` or `HxW` as (height, width).

    Raises:
        RequestError: it is neither.
    """
    sides = re.fullmatch(r"([0-9]{1,9})(?:[xX]([0-9]{1,9}))?", text)
    if sides is None:
        raise RequestError(f"{option} {text!r} is not a size", "give N or HxW, such as 224 or 256x192")
    return int(sides[1]), int(sides[2] or sides[1])


def parse_color(text: str) -> Color:
    """Parse the name of a color.

    Raises:
        RequestError: it is none of `COLORS`.
    """
    found = next((color for color in COLORS if color == text), None)
    if found is None:
        raise RequestError(f"--color {text!r} is unknown", f"choose one of {', '.join(COLORS)}")
    return found


def parse_batch(text: str) -> int | None:
    """Parse `N` or `dynamic` (None).

    Raises:
        RequestError: it is neither.
    """
    if text == "dynamic":
        return None
    if text.isascii() and text.isdecimal():
        return int(text)
    raise RequestError(f"--batch {text!r} is neither a number nor 'dynamic'", "leave it out for 1")


def parse_cores(text: str) -> tuple[int, ...]:
    """Parse `0,2-3` as (0, 2, 3).

    Raises:
        RequestError: it is not such a list.
    """
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
        if ends is None or int(ends[2] or ends[1]) < int(ends[1]):
            raise RequestError(f"--cores {text!r} is not a list of cores", "give numbers and ranges, such as 0,2-3")
        found.update(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return tuple(sorted(found))


def print_json(answer: Mapping[str, Any]) -> None:
    """Write one JSON document to stdout."""
    typer.echo(json_text(answer))


def print_tables(*tables: "Table | str") -> None:
    """Write tables and lines to stdout."""
    from rich.console import Console

    from cloformer_deploy.report.fitting import fitted

    class Stdout(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1, which here means that a check failed

    console = Stdout(highlight=False)
    for item in tables:
        if isinstance(item, str):
            console.print(visible(item), markup=False, soft_wrap=True)
        else:
            console.print(fitted(item, console), markup=False)


def complain(error: CloformerDeployError, about: str = "") -> None:
    """Write an error and what to do next to stderr."""
    typer.echo(visible(f"Error: {about}{error.message}\n  Next: {error.hint}"), err=True)


@contextmanager
def progress() -> Iterator["_Steps"]:
    """Show progress on stderr: a live line on a terminal, one line per step elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(20), TimeElapsedColumn()]
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar:
        yield _Steps(bar)


@contextmanager
def result_cache(folder: Path | None, steps: "_Steps") -> Iterator["Cache"]:
    """Open the cache of results; warn at the end if it could keep none."""
    from cloformer_deploy.validation.cache import Cache, default_folder

    store = Cache(folder or default_folder())
    try:
        yield store
    finally:
        store.close()
    if store.problem:
        steps.warn(f"results are not cached: {store.problem}")


class _Steps:
    """See `cloformer_deploy.progress.Progress`."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task: TaskID | None = None
        self._tenths = 0

    @contextmanager
    def lane(self) -> Iterator["_Steps"]:
        lane = _Steps(self._bar)
        yield lane
        lane._clear()

    def _clear(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def step(self, text: str) -> None:
        self._tenths = 0
        if self._bar.disable:
            self._bar.console.print(f"{visible(text)} ...", markup=False, soft_wrap=True)
            return
        self._clear()
        self._task = self._bar.add_task(visible(text), total=None)

    def advance(self, done: int, total: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif done * 10 // total > self._tenths:
            self._tenths = done * 10 // total
            self._bar.console.print(f"  {done} of {total}", markup=False)

    def warn(self, text: str) -> None:
        self._bar.console.print(f"Warning: {visible(text)}", style="yellow", markup=False, soft_wrap=True)
