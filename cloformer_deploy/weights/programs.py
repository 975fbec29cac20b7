"""Programs of `torch.export` (.pt2): references of networks of one's own, checked before they are read.

`torch.export.load` trusts its file: it unpickles example inputs and some constants, evaluates shapes given as text
(sympy), and looks operators up by name. Nothing of that reaches it from a file here. Every entry of the archive is
checked, and a new archive is written of what is needed: the graph, with known operators of PyTorch only and shapes in a
fixed grammar, and raw tensors. torch reads that one. Sources: torch/export/pt2_archive, torch/_export/serde/schema.py.
"""

import io
import json
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from torch.export import ExportedProgram

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.system.schema import Strict, first_error
from cloformer_deploy.system.text import clipped
from cloformer_deploy.weights.program_graphs import AGAIN, checked_model

EXTRA = "extra/cloformer_deploy.json"
_MODEL = "models/model.json"
_CONFIGS = {
    "data/weights/model_weights_config.json": "data/weights/",
    "data/constants/model_constants_config.json": "data/constants/",
}
_SAMPLES = "data/sample_inputs/model.pt"
_FIXED = {"archive_format": b"pt2", "archive_version": b"0", ".data/version": b"3\n", "byteorder": b"little"}
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OverflowError, RecursionError, SyntaxError),
    *(ValueError, KeyError, TypeError, AttributeError, IndexError),
)
"""Exceptions that damaged archives and JSON raise."""
OutputName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class About(Strict):
    """Facts about a program that its graph does not hold.

    Attributes:
        outputs: name of each output.
        task: key of `tasks.TASKS`.
        labels: names of the classes, where the task has some.
        mean, std: normalization of the input, one value a channel; None where it is not known.
    """

    outputs: tuple[OutputName, ...]
    task: str = "tensors"
    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def saved(program: ExportedProgram, about: About) -> bytes:
    """Return a program as the archive that `checked` gives; equal programs give equal bytes.

    Raises:
        CheckpointError: it has something that `checked` refuses.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        torch.export.save(program, buffer, extra_files={"cloformer_deploy.json": about.model_dump_json()})
    return checked(buffer.getvalue())


def functional(data: bytes, names: About) -> bytes:
    """Return a checked archive with the program in functional form, as `networks.program.tree` takes it."""
    program = loaded(data)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    schemas = [target._schema for target in targets if hasattr(target, "_schema")]
    if not any(schema.is_mutable or schema.name == "aten::batch_norm" for schema in schemas):
        return data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(program.run_decompositions({}), names)


def about(data: bytes) -> About | None:
    """Return what an archive that was checked says beside the program; None where it says nothing."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name.endswith(EXTRA)]
        if not names:
            return None
        try:
            return About.model_validate_json(archive.read(names[0]))
        except ValidationError as error:
            raise CheckpointError(f"{EXTRA} is damaged: {first_error(error)}", AGAIN) from error


def loaded(data: bytes) -> ExportedProgram:
    """Return the program of an archive that `checked` gave."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: ExportedProgram = torch.export.load(io.BytesIO(data))
            return program
    except Exception as error:  # torch raises many for a graph that contradicts itself
        raise CheckpointError(
            f"torch.export.load refuses the program ({clipped(f'{type(error).__name__}: {error}')})", AGAIN
        ) from error


def checked(data: bytes) -> bytes:
    """Check an archive of `torch.export.save`, and return a new one of what is needed of it.

    Raises:
        CheckpointError: it is damaged, or has anything else than a graph of known operators and raw tensors.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _checked(archive, len(data))
    except CheckpointError:
        raise
    except _DAMAGED as error:
        raise CheckpointError(
            f"the program is truncated or damaged ({clipped(f'{type(error).__name__}: {error}')})", AGAIN
        ) from error


def _checked(archive: zipfile.ZipFile, size: int) -> bytes:
    entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()) or sum(entry.file_size for entry in entries.values()) > size:
        raise CheckpointError("the archive's entries overlap, or are compressed", AGAIN)
    models = [name for name in entries if name.startswith("models/")]
    if models != [_MODEL]:
        raise CheckpointError(
            f"it has {len(models)} models, not one", "save one program: torch.export.save(program, file)"
        )
    kept = {**_FIXED, _MODEL: _text(checked_model(json.loads(archive.read(entries[_MODEL])))), _SAMPLES: b""}
    for config, folder in _CONFIGS.items():
        payloads = json.loads(archive.read(entries[config]))
        kept[config] = _text(payloads)
        for name in sorted(set(_payloads(payloads, size))):
            kept[folder + name] = archive.read(entries[folder + name])
    if EXTRA in entries:
        found = About.model_validate_json(archive.read(entries[EXTRA]))
        kept[EXTRA] = found.model_dump_json().encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as new:
        for name, content in kept.items():
            new.writestr(zipfile.ZipInfo(f"program/{name}"), content)
    return made.getvalue()


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _payloads(config: Mapping[str, Any], size: int) -> Iterator[str]:
    """Yield the entries that a configuration of tensors names, after checking each tensor."""
    for name, payload in config["config"].items():
        path, meta = payload["path_name"], payload["tensor_meta"]
        if payload["use_pickle"] or not re.fullmatch(r"(weight|tensor)_[0-9]+", path):
            raise CheckpointError(f"{clipped(name)} is pickled or an object, not a tensor", AGAIN)
        sides = [side["as_int"] for side in meta["sizes"]]
        if any(side < 0 for side in sides) or 8 * math.prod(sides) > 8 * size:
            raise CheckpointError(f"{clipped(name)} is larger than the file", AGAIN)
        yield path
