"""Conversion jobs for small images."""

from pathlib import Path

from cloformer_deploy import __version__
from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.data import Preprocessing
from cloformer_deploy.exporting.jobs import Job, Source
from cloformer_deploy.weights.checkpoints import Checkpoint, save_checkpoint


def source_of(checkpoint: Checkpoint, folder: Path, side: int) -> Source:
    """Write the canonical copy of a checkpoint into a folder, and return it as a source of side x side files."""
    weights = folder / "weights.safetensors"
    save_checkpoint(checkpoint, weights)
    return Source(
        weights=weights,
        weights_name=checkpoint.name,
        weights_sha256=checkpoint.sha256,
        tool_version=__version__,
        network=checkpoint.network,
        variant=checkpoint.variant,
        architecture=checkpoint.architecture,
        task=checkpoint.task,
        scores="softmax",
        labels=checkpoint.labels,
        preprocessing=Preprocessing.published(side, side),
    )


def job(source: Source, format_name: str, target: str, paths: dict[str, Path], **changes: object) -> Job:
    """Return a job with the format's default options and a batch of one normalized image, changed as asked."""
    options = BACKENDS[format_name].options().model_dump()
    asked = Job(
        source=source, format=format_name, target=target, paths=paths, input_kind="tensor", batch=1, options=options
    )
    return asked.model_copy(update=changes)
