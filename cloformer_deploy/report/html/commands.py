"""The commands that reproduce a report's bundle and figures, and notes on what the manifest does not record."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloformer_deploy.backends.registry import BACKENDS, all_precisions, default_target, recipe_of
from cloformer_deploy.bundle import Bundle, digest
from cloformer_deploy.bundle.manifest import Artifact
from cloformer_deploy.data.calibration import bundled_of
from cloformer_deploy.weights.zoo import bundled_checkpoints

if TYPE_CHECKING:
    from cloformer_deploy.bench import Result

_PROGRAM = "cloformer-deploy"
_DEFAULT_SIDE = 224


@dataclass(frozen=True)
class Asked:
    """The options of the report, as they were given."""

    data: Path | None = None
    limit: int | None = None
    config: Path | None = None
    baseline: Path | None = None
    cache: Path | None = None
    output: Path | None = None

    def options(self, *names: str) -> list[str]:
        """Return those of the named options that were given, as words of a command line."""
        values = [(name, getattr(self, name)) for name in names]
        return [text for name, value in values if value is not None for text in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Commands:
    """Command lines for a shell.

    Attributes:
        export: one line per group of artifacts that one command can make; `FILE` stands for a file that is unknown.
        notes: what each `FILE` is, and what else the manifest does not record.
        validate, gate, report: one line each.
        bench: one line per device and number of threads.
    """

    export: tuple[str, ...]
    notes: tuple[str, ...]
    validate: str
    gate: str
    bench: tuple[str, ...]
    report: str


def commands(bundle: Bundle, measured: Sequence["Result"], asked: Asked) -> Commands:
    """Return the commands of a bundle and its measurements."""
    root = str(bundle.root)
    notes: list[str] = []
    weights = _weights(bundle, notes)
    judged = asked.options("data", "limit", "config", "baseline")
    cells = dict.fromkeys((item.device, item.threads) for item in measured)
    return Commands(
        export=tuple(_export(bundle, weights, notes)),
        notes=tuple(dict.fromkeys(notes)),
        validate=_line("validate", root, *asked.options("data", "limit")),
        gate=_line("gate", root, *judged),
        bench=tuple(_line("bench", root, "--device", device, "--threads", str(count)) for device, count in cells)
        or (_line("bench", root),),
        report=_line("report", root, *asked.options("output", "data", "limit", "config", "baseline", "cache")),
    )


def _weights(bundle: Bundle, notes: list[str]) -> list[str]:
    """Return the options for weights and labels; what is unknown is added to `notes`."""
    from cloformer_deploy.weights.checkpoints import load_checkpoint

    known, labels = bundle.manifest.weights, bundle.manifest.labels
    bundled = bundled_checkpoints().get(known.name)
    if bundled is not None and digest(bundled) == known.sha256:
        found = ["--weights", known.name]
        named = load_checkpoint(bundled).labels == labels
    else:
        notes.append(f"--weights FILE: {known.name}, sha256 {known.sha256}; the manifest does not record its path")
        found, named = ["--weights", "FILE"], labels is None
    if not named:
        notes.append("--labels FILE: the labels of the manifest, one per line, unless the weights have them")
        found += ["--labels", "FILE"]
    return found


def _export(bundle: Bundle, weights: Sequence[str], notes: list[str]) -> Iterator[str]:
    """Yield one command for each group of artifacts that a single command can make."""
    made: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for item in bundle.manifest.artifacts:
        options = tuple(_options(item, bundle, notes))
        made.setdefault(options, {}).setdefault(item.format, []).append(item.precision)
    for options, formats in made.items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for name, precisions in formats.items():
            alike.setdefault(tuple(sorted(precisions, key=all_precisions().index)), []).append(name)
        for precisions_of_all, names in alike.items():
            what = [*_each("--format", names), *_each("--precision", precisions_of_all)]
            yield _line("export", *weights, *what, *options, "--output", str(bundle.root))


def _options(artifact: Artifact, bundle: Bundle, notes: list[str]) -> Iterator[str]:
    """Yield the options that all artifacts of one command share; what is unknown is added to `notes`."""
    height, width = bundle.manifest.preprocessing.height, bundle.manifest.preprocessing.width
    if artifact.target != default_target(artifact.format):
        yield from ("--target", artifact.target)
    if artifact.input.kind != "tensor":
        yield from ("--input", artifact.input.kind)
    if (height, width) != (_DEFAULT_SIDE, _DEFAULT_SIDE):
        yield from ("--input-size", str(height) if height == width else f"{height}x{width}")
    if artifact.input.batch != 1:
        yield from ("--batch", str(artifact.input.batch))
    calibration = artifact.calibration
    if calibration is not None and bundled_of(calibration.sha256) is None:
        yield from ("--calibration", "FILE")
        notes.append(
            f"--calibration FILE: the set with sha256 {calibration.sha256}, of {calibration.n} images, seed "
            f"{calibration.seed}"
        )
    if artifact.excluded_layers:
        notes.append(
            f"{artifact.path}: --max-drop or --recipe kept {len(artifact.excluded_layers)} layers out of 8 bits; "
            "the manifest names the layers, not the option"
        )
    if artifact.tuning is not None:
        yield from ("--recipe", "FILE")
        notes.append(f"--recipe FILE: a recipe with the tuning that the manifest has for {artifact.path}")
    wide = bool(artifact.excluded_layers)
    defaults = BACKENDS[artifact.format].options().settled(recipe_of(artifact.key), wide=wide).model_dump()
    for name, value in artifact.options.items():
        if value != defaults.get(name):
            option = f"--{name.replace('_', '-')}"
            yield from (option,) if value is True else (option, str(value))


def _each(option: str, values: Iterable[str]) -> Iterator[str]:
    for value in values:
        yield from (option, value)


def _line(*words: str) -> str:
    return shlex.join((_PROGRAM, *words))
