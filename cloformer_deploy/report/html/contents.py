"""The contents of a report: the gate's result, the measurements kept with the bundle, and each file's inspection."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cloformer_deploy.backends.inspection import Inspection, inspect
from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.errors import CloformerDeployError
from cloformer_deploy.npu import Compiled, Placer, placers_of
from cloformer_deploy.report.html.commands import Asked, Commands, commands
from cloformer_deploy.tasks import task_of

if TYPE_CHECKING:
    from cloformer_deploy.bench import Result
    from cloformer_deploy.gate import Gate
    from cloformer_deploy.progress import Progress
    from cloformer_deploy.report.html.pictures import PictureRow


@dataclass(frozen=True)
class Placement:
    """The operators of an artifact that run on each unit of one processor.

    Attributes:
        placer: what tells it.
        compiled: its account; None where it gave none.
        problem: why it gave none.
    """

    placer: Placer
    compiled: Compiled | None
    problem: str | None = None


@dataclass(frozen=True)
class File:
    """An artifact with its inspection.

    Attributes:
        artifact: its manifest entry.
        share: its bytes divided by those of the float32 file of its format; None without such a file.
        inspection: what is in it; None if it could not be inspected.
        problem: why it could not be inspected.
        placements: on the processors that it is for.
    """

    artifact: Artifact
    share: float | None
    inspection: Inspection | None
    problem: str | None = None
    placements: tuple[Placement, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything on the page.

    Attributes:
        bundle: the subject.
        result: the gate's result.
        measured: results of `bench`, in the manifest's order, with estimates and emulations.
        files: one per artifact.
        runtimes: versions of the runtimes that executed artifacts now, by title.
        commands: commands that reproduce all of it.
        written_at: time of writing, UTC.
        pictures: answers for some images, for tasks that can be drawn.
    """

    bundle: Bundle
    result: "Gate"
    measured: tuple["Result", ...]
    files: tuple[File, ...]
    runtimes: dict[str, str]
    commands: Commands
    written_at: datetime
    pictures: tuple["PictureRow", ...] = ()


def gathered(
    bundle: Bundle, result: "Gate", measured: Sequence["Result"], asked: Asked, progress: "Progress"
) -> Report:
    """Inspect the files, and collect everything. A file that cannot be inspected is shown with the reason."""
    files = []
    for item in bundle.manifest.artifacts:
        progress.step(f"Inspecting {item.path}")
        files.append(replace(_file(bundle, item), placements=tuple(_placements(bundle, item, progress))))
    executed = {cell.runtime for cell in result.cells if cell.comparison is not None}
    runtimes = {runtime.name: runtime for backend in BACKENDS.values() for runtime in backend.runtimes}
    progress.step("Drawing")
    from cloformer_deploy.report.html.pictures import picture_rows

    manifest = bundle.manifest
    images = task_of(manifest).open_data(asked.data, manifest.num_classes, manifest.labels).limited(asked.limit)
    return Report(
        bundle,
        result,
        tuple(measured),
        tuple(files),
        {runtimes[name].title: runtimes[name].version() for name in sorted(executed)},
        commands(bundle, measured, asked),
        datetime.now(UTC),
        picture_rows(bundle, result, images),
    )


def _file(bundle: Bundle, artifact: Artifact) -> File:
    share = _share(bundle, artifact)
    try:
        return File(artifact, share, inspect(bundle.path(artifact)))
    except CloformerDeployError as error:
        return File(artifact, share, None, f"{error.message}: {error.hint}")


def _placements(bundle: Bundle, artifact: Artifact, progress: "Progress") -> Iterator[Placement]:
    for placer in placers_of(artifact.key):
        progress.step(f"Placing {artifact.path} on {placer.title}")
        try:
            yield Placement(placer, placer.compile(bundle.path(artifact)))
        except CloformerDeployError as error:
            yield Placement(placer, None, f"{error.message}: {error.hint}")


def _share(bundle: Bundle, artifact: Artifact) -> float | None:
    floats = [item for item in bundle.manifest.artifacts if (item.format, item.precision) == (artifact.format, "fp32")]
    floats.sort(key=lambda item: item.target != artifact.target)
    return artifact.bytes / floats[0].bytes if floats else None
